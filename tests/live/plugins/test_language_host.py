"""The language host, driven by the real CLI."""

import json
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.live.support.cluster import ROOT, Cluster
from tests.live.support.kube import Kube
from tests.live.support.stacks import Stack, UpdateError, words
from toolchain import builds, schema

PROJECT = """\
name: prefix
runtime:
  name: python
  options:
    virtualenv: venv
"""


@pytest.fixture
def program(cluster: Cluster, tmp_path: Path) -> Stack:
    """A program that says in which environment it runs."""
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text(PROJECT)
    (folder / "__main__.py").write_text("import sys, pulumi\npulumi.export('prefix', sys.prefix)\n")
    stack = Stack(cluster, folder, tmp_path / "stack")
    stack.prepare()
    return stack


def test_a_program_runs_in_its_own_environment(program: Stack) -> None:
    with pytest.raises(UpdateError) as refused:
        program.up()
    assert "does not exist; `pulumi install` creates it" in words(refused.value.output)
    folder = program.work / "venv"
    venv.create(folder, symlinks=True)
    # What pip would install there.
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / name / "site-packages" / "given.pth"
    packages.write_text(sysconfig.get_path("purelib") + "\n")
    program.up()
    assert program.outputs()["prefix"] == str(folder)
    assert str(folder / "bin" / "python") in program.run("about")


def test_what_it_does_not_have_is_said_in_a_sentence(program: Stack) -> None:
    with pytest.raises(UpdateError) as refused:
        program.run("convert", "--from", "pcl", "--language", "python", "--out", "elsewhere")
    output = words(refused.value.output)
    assert "the project's language host does not support Generate" in output
    assert "Traceback" not in output


def test_an_import_prints_the_program_of_what_it_found(
    program: Stack, kube: Kube, namespace: str
) -> None:
    body: Any = {"metadata": {"name": "theirs"}, "data": {"a": "1"}}
    kube.core.create_namespaced_config_map(namespace, body)
    (program.work / "Pulumi.yaml").write_text("name: prefix\nruntime: python\n")
    token, name = "kubernetes:core/v1:ConfigMap", f"{namespace}/theirs"
    out = program.folder / "found.py"
    program.run(
        "import", token, "ours", name, "--out", str(out), "--yes", "--stack", program.name
    )  # fmt: skip
    # The program declares it, and there is nothing left to do.
    (program.work / "__main__.py").write_text(out.read_text())
    assert "import pulumi_kubernetes as" in out.read_text()
    assert program.up().changed == {}
    program.run("state", "unprotect", "--all", "--yes", "--stack", program.name)
    program.destroy()


def test_the_providers_schema_is_shown(program: Stack) -> None:
    schema = json.loads(program.run("package", "get-schema", "kubernetes"))
    assert schema["version"] == builds.KUBERNETES_PROVIDER_VERSION
    assert "kubernetes:core/v1:ConfigMap" in schema["resources"]


def test_the_components_schema_is_shown(program: Stack) -> None:
    found = json.loads(program.run("package", "get-schema", "dds"))
    expected = schema.written(ROOT)
    assert len(expected["resources"]) > 30
    for kind in ("resources", "types"):
        assert found[kind].keys() == expected[kind].keys()
        for token, each in expected[kind].items():
            assert found[kind][token].get("properties", {}).keys() == each["properties"].keys()
