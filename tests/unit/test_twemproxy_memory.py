"""A real nutcracker with the ambassador's buffers, under an ordinary application's pipeline."""

import pathlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import ports
from tests.unit.support.listening import running
from tests.unit.test_twemproxy import configuration, made

NUTCRACKER = shutil.which("nutcracker")
COMMANDS = 10_000
LIMIT_KIB = 128 * 1024
"""What a container may take that says nothing of it."""
SET = b"*3\r\n$3\r\nSET\r\n$9\r\nkey:%05d\r\n$500\r\n" + b"x" * 500 + b"\r\n"
ANSWER = b"+OK\r\n"


def commands() -> bytes:
    return b"".join(SET % number for number in range(COMMANDS))


@contextmanager
def late_shard() -> Iterator[int]:
    """A shard's port, whose answers begin when it has all commands: the proxy has to hold each."""
    size = len(SET % 0)
    lock = threading.Lock()
    complete = threading.Event()
    received = 0

    def serve(connection: socket.socket) -> None:
        nonlocal received
        own = 0
        with connection:
            while not complete.is_set() and (piece := connection.recv(1 << 20)):
                own += len(piece)
                with lock:
                    received += len(piece)
                    if received == COMMANDS * size:
                        complete.set()
            connection.sendall(ANSWER * (own // size))
            connection.recv(1)

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]


def most_memory(process: subprocess.Popen[bytes]) -> int:
    """The most that it ever had, in KiB."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.skipif(NUTCRACKER is None, reason="nutcracker is not installed")
def test_an_ordinary_pipeline_stays_far_below_the_containers_memory(tmp_path: pathlib.Path) -> None:
    listen, stats = ports.free_ports(2)
    ambassador, graph = made(listen_port=listen, stats_port=stats, role="store", timeout_ms=600_000)
    file = tmp_path / "nutcracker.yaml"
    command = [str(word) for word in ambassador.companion.containers[0]["command"]]
    command[command.index("--conf-file") + 1] = str(file)
    with late_shard() as shard:
        # One shard: who waits for all commands has all of them.
        head, found, _ = configuration(graph).partition("  - cache-0.data.svc:6379:1")
        file.write_text(
            f"{head}{found}".replace("cache-0.data.svc:6379", f"127.0.0.1:{shard}") + " one\n"
        )
        with (
            running(command, listen) as proxy,
            socket.create_connection(("127.0.0.1", listen), 60) as connection,
        ):
            connection.sendall(commands())
            answer = b""
            while len(answer) < COMMANDS * len(ANSWER):
                piece = connection.recv(65536)
                assert piece, "the ambassador closed the connection"
                answer += piece
            assert answer == ANSWER * COMMANDS
            assert most_memory(proxy) < LIMIT_KIB / 2
