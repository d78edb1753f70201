"""The commands that compositions print for whoever tries them out."""

import re
import subprocess

import pytest

from stacks import COMPOSITIONS, deploy
from stacks.settings import Settings
from toolchain.graph import Secret, build

CLUSTER = {"kubeconfig": Secret("kubeconfig-of-the-cluster"), "registry": "localhost:5000"}
# A reader has no stack selected, and Pulumi asks which one then.
WITHOUT_STACK = re.compile(r"pulumi [^&|;]*(?:config set|stack output|up)\b(?![^&|;]*--stack)")
WITH_TRIES = sorted(set(COMPOSITIONS) - {"cluster", "topz"})


@pytest.mark.parametrize("stack", WITH_TRIES)
def test_each_is_a_command_that_names_its_stack(stack: str) -> None:
    graph = build(
        lambda: deploy(Settings.load()),
        stack=stack,
        references={"organization/dds/cluster": CLUSTER},
    )
    tries = graph.outputs[""]["try"]
    assert tries
    for what, command in tries.items():
        assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0, what
        assert not WITHOUT_STACK.search(command), (what, command)
        # It never ends by itself.
        assert "port-forward" not in command or "kill $!" in command, (what, command)
