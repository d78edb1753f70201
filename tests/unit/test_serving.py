"""What the example services of the toolbox have in common, as processes."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port

TOOLBOX = Path(__file__).parents[2] / "images" / "toolbox"


@pytest.fixture
def legacy() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-B", str(TOOLBOX / "legacy.py")], env={**os.environ, "PORT": str(port)}
    )
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def _connected(port: int) -> http.client.HTTPConnection:
    for _ in range(100):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            connection.close()
            time.sleep(0.05)
        else:
            return connection
    raise AssertionError("nobody answers")


def test_told_to_end_it_answers_what_it_has_and_waits_for_nothing_more(
    legacy: tuple[subprocess.Popen[bytes], int],
) -> None:
    process, port = legacy
    # Kept for later by whoever is in front, as nginx does.
    idle = _connected(port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/slow/3000")
    # It is on its way through the other end: let it be read there.
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    assert connection.getresponse().status == 200
    assert process.wait(10) == 0
    connection.close()
    idle.close()
