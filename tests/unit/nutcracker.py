"""A real nutcracker in front of servers that only note which keys they were given."""

import contextlib
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence

from tests.ports import free_port
from tests.unit.support.listening import wait_for

BINARY = shutil.which("nutcracker") or shutil.which("nutcracker", path="/usr/sbin:/usr/local/bin")


class NotingServer:
    """Answers +OK to every SET and keeps the keys."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while header := stream.readline():
                parts = []
                for _ in range(int(header[1:])):
                    length = int(stream.readline()[1:])
                    parts.append(stream.read(length + 2)[:-2])
                self.keys.append(parts[1])
                connection.sendall(b"+OK\r\n")


@contextlib.contextmanager
def running(configuration: str, listen: int) -> Iterator[None]:
    """nutcracker with this configuration, accepting connections on the loopback port ``listen``."""
    assert BINARY is not None
    stats = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "nutcracker.yaml")
        path.write_text(configuration)
        process = subprocess.Popen(
            [
                *(BINARY, "-c", str(path), "-o", "/dev/null", "-p", f"{folder}/pid"),
                *("-a", "127.0.0.1", "-s", str(stats), "-v", "0"),
            ],
        )
        try:
            wait_for(listen, process)
            yield
        finally:
            process.terminate()
            process.wait(10)


def accepts(configuration: str) -> subprocess.CompletedProcess[str]:
    """What ``nutcracker --test-conf`` says about a configuration."""
    assert BINARY is not None
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "nutcracker.yaml")
        path.write_text(configuration)
        return subprocess.run(
            [BINARY, "-t", "-c", str(path), "-o", "/dev/stderr"],
            capture_output=True,
            text=True,
            check=False,
        )


def placements(
    names: Sequence[str], hash_name: str, keys: Sequence[bytes], hash_tag: str = ""
) -> dict[bytes, int]:
    """Index of the server that a real nutcracker sends each key to."""
    servers = [NotingServer() for _ in names]
    listen = free_port()
    lines = [
        "pool:",
        f"  listen: 127.0.0.1:{listen}",
        f"  hash: {hash_name}",
        "  distribution: ketama",
        "  redis: true",
        *([f'  hash_tag: "{hash_tag}"'] if hash_tag else []),
        "  servers:",
        *(
            f"  - 127.0.0.1:{server.port}:1 {name}"
            for name, server in zip(names, servers, strict=True)
        ),
    ]
    try:
        with (
            running("\n".join(lines) + "\n", listen),
            socket.create_connection(("127.0.0.1", listen), timeout=60) as client,
            client.makefile("rb") as answers,
        ):
            for start in range(0, len(keys), 500):
                batch = keys[start : start + 500]
                client.sendall(
                    b"".join(
                        b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$1\r\n1\r\n" % (len(key), key)
                        for key in batch
                    )
                )
                for key in batch:
                    answer = answers.readline()
                    assert answer == b"+OK\r\n", (key, answer)
    finally:
        for server in servers:
            server.close()
    return {key: index for index, server in enumerate(servers) for key in server.keys}
