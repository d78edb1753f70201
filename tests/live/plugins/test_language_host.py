"""The language host, driven by the real CLI."""

import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.live.support.cluster import Cluster
from tests.live.support.stacks import Stack, UpdateError

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
    assert "does not exist; `pulumi install` makes it" in " ".join(refused.value.output.split())
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
    output = " ".join(refused.value.output.split())
    assert "the project's language host has no Generate" in output
    assert "Traceback" not in output
