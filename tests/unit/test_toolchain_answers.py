"""What the driver does with answers that break off, are none, or never come."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest

from tests.unit.support.wire import answered, raw_server
from toolchain import (
    api_server,
    base_image,
    created,
    docker_daemon,
    installation,
    machine,
    process,
    runner,
)
from toolchain.errors import ToolchainError
from toolchain.machine import Mode
from toolchain.node import image
from toolchain.paths import Checkout
from toolchain.pulumi_cli import PulumiCli


def test_what_does_not_speak_http_is_not_reachable() -> None:
    with raw_server(b"220 mail.example ESMTP\r\n") as server:
        assert not machine.reachable(server.url)


def test_what_does_not_speak_http_is_no_docker_daemon(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        assert not docker_daemon.answers(path, timeout=60)
        answering.join()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.setattr(machine, "installed_cli", lambda: None)
    made = Checkout(tmp_path)
    made.make_private()
    return made


def installer(*commands: str) -> bytes:
    """A script that is called as the official one."""
    head = 'while [ $# -gt 0 ]; do [ "$1" = --install-root ] && root=$2; shift; done\n'
    return (head + "\n".join(commands) + "\n").encode()


def ensure_cli(checkout: Checkout, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    with raw_server(answer) as server:
        monkeypatch.setattr(installation, "INSTALLER", server.url)
        installation.ensure_cli(checkout, Mode("ordinary", "test"))


WHOLE = installer('mkdir -p "$root/bin"', 'echo cli > "$root/bin/pulumi"')


def test_an_installer_that_breaks_off_is_not_run(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ToolchainError, match="cannot be downloaded"):
        ensure_cli(checkout, monkeypatch, answered(WHOLE, length=len(WHOLE) + 1))
    assert not (checkout.private / "pulumi").exists()


def test_an_installation_that_fails_leaves_no_half_of_a_cli(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = installer('mkdir -p "$root/bin"', 'echo c > "$root/bin/pulumi"', "exit 1")
    with pytest.raises(ToolchainError, match="installer failed"):
        ensure_cli(checkout, monkeypatch, answered(half))
    ensure_cli(checkout, monkeypatch, answered(WHOLE))
    assert (checkout.private / "pulumi" / "bin" / "pulumi").read_text() == "cli\n"


def test_an_import_whose_failure_stands_in_its_text_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise docker.errors.ImageNotFound(name)

    client: Any = SimpleNamespace(
        images=SimpleNamespace(get=missing),
        api=SimpleNamespace(import_image_from_file=lambda *_, **__: '{"error": "no space left"}'),
    )
    monkeypatch.setattr(base_image, "_tarball", lambda: tmp_path / "rootfs.tar")
    with pytest.raises(ToolchainError, match="no space left"):
        base_image.ensure(client, pull=False)


def test_a_node_image_whose_build_ends_early_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(name: str) -> Any:
        if name == image.BASE:
            return SimpleNamespace(id="1")
        raise docker.errors.ImageNotFound(name)

    client: Any = SimpleNamespace(
        images=SimpleNamespace(get=get),
        api=SimpleNamespace(build=lambda **_: iter([{"stream": "Step 1/2 : FROM a"}])),
    )
    monkeypatch.setattr(image, "context_hash", lambda *_: "0")
    monkeypatch.setattr(image, "_write_context", lambda *_: None)
    with pytest.raises(image.BuildError, match="ended before the build was complete"):
        image.ensure(client, {}, lambda _: None)


def test_a_process_that_ends_while_it_is_stopped_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = process.Process.of(running.pid)
    assert found
    kill = os.kill

    def late(pid: int, number: int) -> None:
        kill(pid, signal.SIGKILL)
        running.communicate()
        kill(pid, number)

    monkeypatch.setattr(os, "kill", late)
    found.stop(60)
    assert not found.alive


@pytest.fixture
def silent() -> Iterator[int]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def _kubeconfig(folder: Path, server: str) -> Path:
    file = folder / "kubeconfig"
    file.write_text(
        f"""
        {{clusters: [{{name: c, cluster: {{server: "{server}"}}}}],
          users: [{{name: u, user: {{}}}}],
          contexts: [{{name: d, context: {{cluster: c, user: u}}}}], current-context: d}}
        """
    )
    return file


def test_a_cluster_that_hangs_is_not_waited_for(
    silent: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(api_server, "ANSWER_SECONDS", 0.2)
    kubeconfig = _kubeconfig(tmp_path, f"http://127.0.0.1:{silent}")
    resource = {
        "type": "kubernetes:core/v1:ConfigMap",
        "inputs": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}},
    }
    created.delete(Checkout(tmp_path), {"KUBECONFIG": str(kubeconfig)}, resource, None)
    assert "the cluster does not respond" in capsys.readouterr().err


def test_the_projects_own_cluster_responds_whatever_context_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = b'{"major": "1", "minor": "34", "gitVersion": "v1.34.4", "gitCommit": "", '
    version += (
        b'"gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}'
    )
    monkeypatch.setenv("KUBECONTEXT", "elsewhere")
    with raw_server(answered(version, "Content-Type: application/json")) as server:
        kubeconfig = _kubeconfig(tmp_path, server.url)
        cli = PulumiCli(Checkout(tmp_path), {"KUBECONFIG": str(kubeconfig)})
        assert runner.cluster_responds(cli)
    assert not runner.cluster_responds(cli)
