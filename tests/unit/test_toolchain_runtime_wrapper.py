"""The wrapper around runc takes out what the machine does not grant, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from toolchain import docker_daemon

MISSING = ["CAP_SYS_RESOURCE"]
CAPABILITIES = {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"], "ambient": None}


@pytest.fixture
def wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    runc = tmp_path / "bin" / "runc"
    runc.parent.mkdir()
    runc.write_text('#!/bin/sh\necho "runc $*"\n')
    runc.chmod(0o755)
    found = shutil.which

    def which(name: str, **options: Any) -> str | None:
        return str(runc) if name == "runc" else found(name, **options)

    monkeypatch.setattr(shutil, "which", which)
    return docker_daemon.write_wrapper(tmp_path, MISSING)


def run(wrapper: Path, *arguments: str) -> str:
    return subprocess.run(
        [str(wrapper), *arguments], check=True, capture_output=True, text=True
    ).stdout


def test_create_cleans_the_bundle(wrapper: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    document = {
        "process": {"args": ["echo", "CAP_SYS_RESOURCE"], "capabilities": CAPABILITIES},
        "root": {"path": "/x"},
    }
    config.write_text(json.dumps(document))
    said = run(wrapper, "--root", "/r", "create", "--bundle", str(tmp_path), "name")
    assert said == f"runc --root /r create --bundle {tmp_path} name\n"
    cleaned = json.loads(config.read_text())
    assert cleaned["process"]["capabilities"] == {"bounding": ["CAP_CHOWN"], "ambient": []}
    assert cleaned["process"]["args"] == document["process"]["args"]  # type: ignore[index]
    assert cleaned["root"] == {"path": "/x"}


def test_exec_cleans_the_process_file(wrapper: Path, tmp_path: Path) -> None:
    process = tmp_path / "process.json"
    process.write_text(json.dumps({"args": ["true"], "capabilities": CAPABILITIES}))
    run(wrapper, "exec", "--process", str(process), "name")
    assert json.loads(process.read_text())["capabilities"]["bounding"] == ["CAP_CHOWN"]


def test_a_process_without_capabilities_stays(wrapper: Path, tmp_path: Path) -> None:
    process = tmp_path / "process.json"
    process.write_text(json.dumps({"args": ["true"]}))
    run(wrapper, "exec", "--process", str(process), "name")
    assert json.loads(process.read_text()) == {"args": ["true"]}


def test_other_commands_pass_through(wrapper: Path) -> None:
    assert run(wrapper, "kill", "name", "9") == "runc kill name 9\n"
