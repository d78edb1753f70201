"""The newest client of Redis for Python through a real nutcracker, as the page says."""

import pathlib
import shutil
import socket

import pytest

from tests import ports
from tests.unit.support.listening import running
from tests.unit.test_twemproxy import configuration, made

redis = pytest.importorskip("redis", minversion="8", reason="redis-py 8 is not installed")
REDIS = shutil.which("redis-server")


@pytest.mark.skipif(
    REDIS is None or shutil.which("nutcracker") is None,
    reason="nutcracker or redis-server is not installed",
)
def test_the_newest_client_works_as_the_page_says(tmp_path: pathlib.Path) -> None:
    listen, stats, shard = ports.free_ports(3)
    ambassador, graph = made(listen_port=listen, stats_port=stats, role="store", timeout_ms=60_000)
    file = tmp_path / "nutcracker.yaml"
    command = [str(word) for word in ambassador.companion.containers[0]["command"]]
    command[command.index("--conf-file") + 1] = str(file)
    head, found, _ = configuration(graph).partition("  - cache-0.data.svc:6379:1")
    file.write_text(
        f"{head}{found}".replace("cache-0.data.svc:6379", f"127.0.0.1:{shard}") + " one\n"
    )
    server = [str(REDIS), "--port", str(shard), "--save", "", "--dir", str(tmp_path)]
    with running(server, shard), running(command, listen):
        client = redis.Redis(port=listen, protocol=2, driver_info=None)
        assert client.set("a", "b")
        assert client.get("a") == b"b"
        # What it says by default is why it needs to be told.
        for greeting in (b"HELLO 3\r\n", b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"):
            with socket.create_connection(("127.0.0.1", listen), 60) as connection:
                connection.sendall(greeting)
                assert connection.recv(100) == b""
