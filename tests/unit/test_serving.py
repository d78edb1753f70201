"""What the example services of the toolbox have in common, as processes."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.unit.support import waiting
from tests.unit.support.programs import program
from tests.unit.support.wire import begun, trickled

legacy_program: Any = program("toolbox/legacy.py")
fenced_store: Any = program("toolbox/fenced_store.py")
# What these have imported.
serving: Any = sys.modules["serving"]

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


class Example(serving.Handler):  # type: ignore[misc]
    """Says what it got; /held waits until the test lets it go."""

    go: threading.Event
    begun: threading.Semaphore

    def do_GET(self) -> None:
        if self.path == "/held":
            self.begun.release()
            self.go.wait(60)
        self.answer(200, {"path": self.path, "body": self.body.decode()})

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        """It logs nothing."""


@contextlib.contextmanager
def running(server: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def example() -> Iterator[Any]:
    Example.go, Example.begun = threading.Event(), threading.Semaphore(0)
    with running(serving.Server("127.0.0.1", 0, Example)) as server:
        yield server
        Example.go.set()


@pytest.fixture
def plain() -> Iterator[Any]:
    legacy_program.Legacy.files = legacy_program.Files(None)
    with running(serving.Server("127.0.0.1", 0, legacy_program.Legacy)) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    kept = fenced_store.Store(fenced_store.Journal(tmp_path / "journal"))
    with running(fenced_store.Server(0, kept, "127.0.0.1")) as server:
        yield server


def port(server: Any) -> int:
    number: int = server.server_address[1]
    return number


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


until = partial(waiting.soon, seconds=60)


def said(server: Any, *sent: bytes, end: bool = False) -> bytes:
    """All that a server says to these bytes until it ends the connection.

    :param end: no more is sent, which the server is told
    """
    with socket.create_connection(("127.0.0.1", port(server)), timeout=60) as connection:
        for piece in sent:
            connection.sendall(piece)
        if end:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


def got(server: Any, path: str, body: bytes | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port(server), timeout=60)
    with contextlib.closing(connection):
        connection.request("GET" if body is None else "POST", path, body)
        answer = connection.getresponse()
        return answer.status, json.load(answer)


@pytest.mark.parametrize(
    ("header", "body", "status"),
    [
        ("Content-Length: 9", b"{}", b" 400 "),
        ("Content-Length: \u00b2", b"", b" 413 "),
        ("Content-Length: -1", b"", b" 413 "),
        ("Content-Length: 2\r\nContent-Length: 3", b"abc", b" 413 "),
        ("Transfer-Encoding: chunked", b"1\r\nx\r\n0\r\n\r\n", b" 411 "),
    ],
    ids=["short", "another script's", "negative", "two lengths", "chunked"],
)
def test_the_legacy_server_takes_a_whole_body_or_none(
    plain: Any, header: str, body: bytes, status: bytes
) -> None:
    reads = got(plain, "/config")[1]["reads"]
    answer = said(plain, f"POST /reload HTTP/1.1\r\n{header}\r\n\r\n".encode(), body, end=True)
    assert status in answer
    assert b"Connection: close" in answer
    assert got(plain, "/config")[1]["reads"] == reads


def test_the_legacy_server_takes_a_body_of_any_size_and_keeps_none(plain: Any) -> None:
    assert got(plain, "/", b"x" * 5_000_000)[1]["bytes"] == 5_000_000


@pytest.mark.parametrize(
    "head", [b"", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 90"]
)
@pytest.mark.parametrize("name", ["example", "store"])
def test_a_request_that_trickles_ends_however_often_a_byte_comes(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, name: str, head: bytes
) -> None:
    server = request.getfixturevalue(name)
    monkeypatch.setattr(serving.Handler, "request_seconds", 0.5)
    start = head + b"\r\n\r\n" if b"Length" in head else head + b"x"
    with begun(port(server), start, 3) as slow:
        for _ in range(600):
            if not trickled(slow):
                break
            time.sleep(0.1)
        assert trickled(slow) == 0


@pytest.mark.parametrize("name", ["example", "store"])
def test_those_that_are_slow_for_longest_go_and_the_newest_is_answered(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    server = request.getfixturevalue(name)
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 4)
    for bound in ("timeout", "request_seconds"):
        # It is not for their slowness alone that they go.
        monkeypatch.setattr(serving.Handler, bound, 600.0)
    with begun(port(server), b"POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\n", 4) as slow:
        # Only then it is known who is the oldest.
        until(lambda: len(server.places._read) == 4)
        (oldest,) = [
            one
            for one in slow
            if one.getsockname() == next(iter(server.places._read)).getpeername()
        ]
        assert got(server, "/readyz")[0] == 200
        assert ended(oldest)
        with begun(port(server), b"GET /", 40):
            assert got(server, "/livez")[0] == 200
            assert all(ended(one) for one in slow if one is not oldest)


def test_more_than_may_be_answered_are_refused_and_probes_are_not(
    example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "MOST_ANSWERS", 2)
    with begun(port(example), b"GET /held HTTP/1.1\r\n\r\n", 2) as held:
        for _ in held:
            assert Example.begun.acquire(timeout=60)
        answer = said(example, b"GET /other HTTP/1.1\r\n\r\n")
        assert b" 503 " in answer
        assert b"Connection: close" in answer
        assert got(example, "/readyz")[0] == 200
        Example.go.set()
        for connection in held:
            assert b" 200 " in connection.recv(65536)
        assert got(example, "/other")[0] == 200


def test_a_body_that_nobody_wants_is_not_the_next_request(example: Any) -> None:
    body = b"GET /secret HTTP/1.1\r\n\r\n"
    first = b"GET /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    answer = said(example, first, b"GET /b HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b'"path": "/secret"' not in answer
    first = b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n%s\r\n0\r\n\r\n" % body
    answer = said(example, first)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b" 411 " in answer


def test_who_still_sends_what_was_refused_reads_why(example: Any) -> None:
    head = b"POST /a HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n"
    answer = said(example, head, b"x" * 2_000_000, end=True)
    assert b" 413 " in answer


def test_who_waits_to_be_told_is_told_to_go_on(example: Any) -> None:
    head = b"POST /a HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with begun(port(example), head) as (connection,):
        assert b" 100 " in connection.recv(65536)
        connection.sendall(b"ab")
        assert b" 200 " in connection.recv(65536)
