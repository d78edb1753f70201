"""The launcher of the language host for YAML: builds it when it is needed, and becomes it."""

import subprocess
import sys
from pathlib import Path

import pytest

from toolchain import builds, paths
from toolchain.errors import ToolchainError
from toolchain.plugins import language_yaml

HOST = '#!/bin/sh\necho "$@"\n'


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the cache has the host: a script in its place."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program = builds.bin_folder(language_yaml.NAME) / language_yaml.PROGRAM
    assert program.is_relative_to(tmp_path), "not the machine's own cache"
    program.parent.mkdir(parents=True)
    program.write_text(HOST)
    program.chmod(0o755)
    return program


@pytest.mark.usefixtures("built")
def test_the_host_takes_the_launchers_place_with_the_engines_arguments() -> None:
    launch = paths.ROOT / "toolchain" / "plugins" / "launch.py"
    command = [sys.executable, str(launch), language_yaml.__name__, "--tracing=t", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # The engine reads the port from the first line: nothing else may be printed before.
    assert done.stdout == "--tracing=t 127.0.0.1:1\n"


def test_a_failed_build_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def ensure(name: str) -> Path:
        raise ToolchainError(f"{name}: go build failed")

    monkeypatch.setattr(builds, "ensure", ensure)
    with pytest.raises(SystemExit, match="^language-yaml: go build failed$"):
        language_yaml.main()
