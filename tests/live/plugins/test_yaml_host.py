"""A program in YAML, run by the real CLI with Pulumi's own language host for it."""

from pathlib import Path

import pytest
import yaml

from tests.live.support.cluster import Cluster
from tests.live.support.stacks import Stack, UpdateError, words
from toolchain import builds

PROJECT = """\
name: words
runtime: yaml
config:
  greeting:
    default: hello
  times:
    type: integer
  password:
    secret: true
resources:
  rendered:
    type: pulumi:providers:kubernetes
    properties:
      renderYamlToDirectory: ${pulumi.cwd}/rendered
  words:
    type: kubernetes:core/v1:ConfigMap
    properties:
      metadata: {name: words, namespace: default}
      data: {text: "${greeting}, world", known: "${pulumi.stack}"}
    options:
      provider: ${rendered}
outputs:
  text: ${words.data["text"]}
  next: [{times: "${times}", password: "${password}"}]
"""
CONFIG_MAP = "kubernetes:core/v1:ConfigMap::words"


@pytest.fixture
def program(cluster: Cluster, tmp_path: Path) -> Stack:
    """The program's stack; its ConfigMap is rendered into a file, not made on the cluster."""
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text(PROJECT)
    stack = Stack(cluster, folder, tmp_path / "stack")
    stack.prepare()
    stack.set(times=3)
    stack.run("config", "set", "--secret", "password", "hush", "--stack", stack.name)
    return stack


def test_a_program_in_yaml_is_previewed_brought_up_and_changed(program: Stack) -> None:
    rendered = program.work / "rendered" / "1-manifest" / "v1-configmap-default-words.yaml"
    assert program.preview().changed[CONFIG_MAP] == "create"
    assert program.up().changed[CONFIG_MAP] == "create"
    assert yaml.safe_load(rendered.read_text()) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "words", "namespace": "default"},
        "data": {"text": "hello, world", "known": program.name},
    }
    assert program.outputs() == {"text": "hello, world", "next": [{"times": 3, "password": "hush"}]}
    assert "hush" not in program.run("stack", "export", "--stack", program.name)
    assert program.up().changed == {}
    assert program.up(greeting="goodbye").changed == {CONFIG_MAP: "replace"}
    assert yaml.safe_load(rendered.read_text())["data"]["text"] == "goodbye, world"
    assert f"yaml {builds.YAML_VERSION}" in words(program.run("about"))
    program.destroy()


def test_the_providers_schema_refuses_a_property_before_anything_is_made(program: Stack) -> None:
    (program.work / "Pulumi.yaml").write_text(PROJECT.replace("metadata: {", "metadatum: {"))
    with pytest.raises(UpdateError) as refused:
        program.up()
    assert "metadatum does not exist on 'kubernetes:core/v1:ConfigMap'" in words(
        refused.value.output
    )
    assert not (program.work / "rendered").exists()
