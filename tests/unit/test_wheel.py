"""The wheel: what is in it, and that a program outside the checkout runs with it alone."""

import json
import os
import shutil
import subprocess
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest

from dds_patterns.wire.components import components
from tests import wheel

ROOT = wheel.ROOT
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# What a program registers under the mocks of Pulumi's SDK; its own modules only.
RUN = """
import json, runpy, pulumi

registered = []

class Mocks(pulumi.runtime.Mocks):
    def new_resource(self, args):
        registered.append([args.typ, args.name, args.inputs])
        # As the provider of Kubernetes, which names what has no name.
        return args.name, {**args.inputs, "metadata": {"name": args.name, **args.inputs.get("metadata", {})}}

    def call(self, args):
        return {}

pulumi.runtime.set_mocks(Mocks(), project="program", stack="dev")
pulumi.runtime.set_all_config(CONFIG)

@pulumi.runtime.test
def program():
    runpy.run_path("__main__.py", run_name="__main__")

program()
print(json.dumps(registered))
"""
CATALOG = """
import pulumi
from dds_patterns import ImageCatalog

ImageCatalog("images", {"registry": "localhost:5000", "names": ["elector", "function"]})
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.built(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.installed(built, tmp_path_factory.mktemp("empty") / "venv")


def run(python: Path, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program with that environment alone."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    return subprocess.run(
        [python, "-c", code],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def registered(python: Path, folder: Path, **config: str) -> dict[tuple[str, str], Any]:
    """What the program in a folder registers: inputs by type and name."""
    given = {f"program:{key}": value for key, value in config.items()}
    done = run(python, folder, f"CONFIG = {given!r}\n{RUN}")
    assert done.returncode == 0, done.stderr
    return {(type_, name): inputs for type_, name, inputs in json.loads(done.stdout)}


def test_it_has_all_that_a_program_needs_and_no_more(built: Path) -> None:
    names = set(zipfile.ZipFile(built).namelist())
    sources = {
        path.relative_to(base).as_posix()
        for base, folder in ((ROOT / "components", "dds_patterns"), (ROOT, "images"))
        for path in (base / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"dds_patterns/py.typed", "dds_patterns/__init__.pyi"} < sources
    assert "dds_patterns/serving/function.Dockerfile" in sources
    content = {name for name in names if ".dist-info/" not in name}
    assert content == {
        f"dds_patterns/{name}" if name.startswith("images/") else name for name in sources
    }


def test_it_says_its_version_and_what_it_requires(built: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = message_from_string(archive.read(name).decode())
    assert metadata["Name"] == "dds-patterns"
    assert metadata["Version"] == PROJECT["project"]["version"]
    assert metadata.get_all("Provides-Extra") == ["cluster"]
    required = metadata.get_all("Requires-Dist") or []
    assert [each for each in required if each.startswith("docker")] == [
        "docker>=7; extra == 'cluster'"
    ]


def test_what_builds_it_is_what_is_pinned_here() -> None:
    pins = {
        line.strip()
        for name in ("requirements.txt", "requirements-dev.txt")
        for line in (ROOT / name).read_text().splitlines()
    }
    assert set(PROJECT["build-system"]["requires"]) - pins == set()


def test_an_example_runs_outside_the_checkout(python: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "election", tmp_path / "program")
    elector = "registry.example/elector:1.0"
    found = registered(python, tmp_path / "program", elector=elector, worker="python:3.12.12-slim")
    assert ("dds:index:Election", "elector") in found
    deployment = found["kubernetes:apps/v1:Deployment", "worker"]
    (sidecar,) = deployment["spec"]["template"]["spec"]["initContainers"]
    assert sidecar["image"] == elector


def test_a_catalog_builds_the_images_that_came_with_it(python: Path, tmp_path: Path) -> None:
    (tmp_path / "__main__.py").write_text(CATALOG)
    found = registered(python, tmp_path)
    for name in ("elector", "function"):
        build = found["docker:index/image:Image", f"images-{name}"]["build"]
        folder = Path(build["context"])
        # Where the package is, which is not below the program.
        assert folder.is_relative_to(python.parents[1])
        assert (folder / "Dockerfile").read_bytes() == (
            ROOT / "images" / name / "Dockerfile"
        ).read_bytes()
        assert build["dockerfile"] == str(folder / "Dockerfile")


def test_no_name_needs_the_extra_and_a_cluster_says_so(python: Path, tmp_path: Path) -> None:
    code = (
        "import dds_patterns\n"
        "from dds_patterns.wire.schema import schema\n"
        "for name in dds_patterns.__all__:\n    getattr(dds_patterns, name)\n"
        "print(dds_patterns.__file__, len(schema()['resources']))\n"
        "dds_patterns.Cluster('c', {})"
    )
    done = run(python, tmp_path, code)
    file, _, number = done.stdout.strip().partition(" ")
    assert Path(file).is_relative_to(python.parents[1])
    assert int(number) == len(components())
    assert 'pulumi.errors.RunError: Cluster "c" needs the Docker SDK for Python' in done.stderr
    assert "pip install 'dds-patterns[cluster]'" in done.stderr
