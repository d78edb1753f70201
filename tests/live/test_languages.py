"""A program in YAML deploys what the same program in Python does."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import wheel
from tests.live.support.cluster import ROOT, Cluster
from tests.live.support.kube import Kube
from tests.live.support.stacks import Stack, Update, UpdateError, throwaway, words
from tests.live.support.variants import built_images

IN_YAML, IN_PYTHON = (ROOT / "examples" / name for name in ("ambassador-yaml", "ambassador"))
IMAGES = ("redis", "twemproxy", "toolbox")
HIT = (
    "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/hits/me').read().decode())"
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.built(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def program(
    cluster: Cluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("languages")
    images = built_images(cluster, folder, IMAGES)
    with throwaway(cluster, IN_YAML, folder / "stack", destroy=False) as stack:
        stack.set(**{name: images[name] for name in IMAGES})
        yield stack
        kube.forget_namespace(stack.outputs()["namespace"])


def resources(update: Update) -> dict[str, str]:
    """What has changed, but for the providers: each language has its own default ones."""
    changed = update.changed.items()
    return {name: step for name, step in changed if not name.startswith("pulumi:providers:")}


def test_a_mistake_is_told_in_a_sentence_before_anything_is_registered(program: Stack) -> None:
    file = program.work / "Pulumi.yaml"
    right = file.read_text()
    file.write_text(right.replace("shards: 2", "shards: 200"))
    try:
        with pytest.raises(UpdateError) as refused:
            program.preview()
    finally:
        file.write_text(right)
    output = words(refused.value.output)
    assert 'ShardedRedis "store": shards is 200; must be' in output
    assert "Traceback" not in output
    assert "dds:index:ShardedRedis store" not in output


def test_the_plugins_folder_serves_the_components(
    program: Stack, package: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "provider"
    shutil.copytree(ROOT / "provider", folder)
    # The CLI installs what a folder requires; here that would be fetched.
    (folder / "requirements.txt").unlink()
    wheel.installed(package, folder / "venv")
    found = json.loads(program.run("package", "get-schema", str(folder)))
    assert "dds:index:ShardedRedis" in found["resources"]


def test_the_python_program_finds_nothing_to_change(
    program: Stack, kube: Kube, package: Path
) -> None:
    # A preview before anything is there knows every object.
    planned = program.preview().changed
    made = program.up()
    assert made.changed == planned
    assert len([urn for urn in planned if "kubernetes:apps/v1:" in urn]) == 2
    namespace = program.outputs()["namespace"]
    pod = next(
        p for p in kube.pods(namespace, {"app.kubernetes.io/instance": "counter"}) if p.ready
    )
    hits = [json.loads(kube.run(pod, "counter", ["python3", "-c", HIT]))["hits"] for _ in range(2)]
    assert hits[1] == hits[0] + 1
    assert program.up().changed == {}
    in_yaml = program.outputs()
    shutil.copytree(IN_PYTHON, program.work, dirs_exist_ok=True)
    wheel.installed(package, program.work / "venv")
    assert resources(program.preview()) == {}
    assert resources(program.up()) == {}
    assert program.outputs() == in_yaml
