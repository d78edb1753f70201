"""The runtime of functions: limits, ids and logs, without the framework that it stands around."""

import contextlib
import gzip
import http.client
import io
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support import waiting
from tests.unit.support.function_image import Served, runtime
from tests.unit.support.wire import begun, trickled


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The runtime's own modules, as they are imported in the image."""
    names = ("front", "health", "identity", "limits", "logs", "places", "settings", "source")
    with runtime(monkeypatch, names) as made:
        yield made


class Running:
    """A limited function behind the image's server."""

    def __init__(self, modules: Any, function: Callable[[dict[str, Any]], Any], **more: Any):
        self.out = io.StringIO()
        self.left: list[int] = []
        """Statuses with which the process would have ended."""
        settings = modules.settings.Settings(name="shop", **more)

        def application(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
            body = function(environ)
            headers = [("Content-Type", "text/plain")]
            if not isinstance(body, bytes):
                start("200 OK", headers)
                return body
            start("200 OK", [*headers, ("Content-Length", str(len(body)))])
            return [body]

        self.limited = modules.limits.Limited(
            application, settings, modules.logs.Log("shop", self.out), self.left.append
        )
        self.served = Served(modules, self.limited)
        self.call = self.served.call

    def lines(self) -> list[dict[str, Any]]:
        """The log, of which the last line is written after the answer was sent."""
        until = time.monotonic() + 10
        while "status" not in self.out.getvalue() and time.monotonic() < until:
            time.sleep(0.005)
        return [json.loads(line) for line in self.out.getvalue().splitlines()]


Make = Callable[..., Running]


@pytest.fixture
def make(modules: Any) -> Iterator[Make]:
    """Makes functions that are served until the test ends."""
    made: list[Running] = []

    def made_one(function: Callable[[dict[str, Any]], Any], **more: Any) -> Running:
        made.append(Running(modules, function, **more))
        return made[-1]

    yield made_one
    for one in made:
        one.served.close()


def test_the_answer_is_the_functions(make: Make) -> None:
    running = make(lambda environ: environ["wsgi.input"].read().upper())
    status, headers, body = running.call(b"hello", x_request_id="r-1")
    assert (status, body) == (200, b"HELLO")
    assert headers["x-request-id"] == "r-1"
    (line,) = running.lines()
    assert (line["message"], line["request_id"], line["status"]) == ("answered", "r-1", 200)


def test_no_more_at_once_than_the_concurrency(make: Make) -> None:
    now: list[int] = []
    most: list[int] = []

    def function(_: dict[str, Any]) -> bytes:
        now.append(1)
        most.append(len(now))
        assert turned_away.wait(20)
        now.pop()
        return b""

    running = make(function, concurrency=2, waiting=3)
    turned_away = threading.Event()
    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(running.call) for _ in range(10)]
        until = time.monotonic() + 15
        while sum(call.done() for call in calls) < 5 and time.monotonic() < until:
            time.sleep(0.01)
        turned_away.set()
        statuses = sorted(call.result()[0] for call in calls)
    assert max(most) == 2
    assert statuses == [200] * 5 + [503] * 5


def test_out_of_time_the_answer_is_complete(make: Make) -> None:
    def spin(_: dict[str, Any]) -> bytes:
        while True:
            time.sleep(0.001)

    status, headers, body = make(spin, timeout=0.2).call(x_request_id="r-1")
    assert (status, headers["x-request-id"]) == (504, "r-1")
    assert json.loads(body) == {"error": "timed out after 0.2 s"}


def test_a_function_out_of_time_is_ended_and_its_place_is_free(make: Make) -> None:
    ended = threading.Event()

    def function(environ: dict[str, Any]) -> bytes:
        if environ["wsgi.input"].read() != b"spin":
            return b"fine"
        until = time.monotonic() + 10
        try:
            while time.monotonic() < until:
                # What careless code does: it swallows every Exception.
                with contextlib.suppress(Exception):
                    time.sleep(0.001)
        finally:
            ended.set()
        return b"not ended"

    # Time enough for the second call, too.
    running = make(function, concurrency=1, timeout=2)
    status, _, _ = running.call(b"spin")
    assert status == 504
    assert ended.wait(9)
    assert running.call(b"")[0] == 200
    assert running.limited.ready


def test_a_function_that_does_not_end_makes_the_process_replace_process(
    modules: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    over: list[bool] = []

    def function(_: dict[str, Any]) -> bytes:
        try:
            release.wait(20)
        finally:
            over.append(True)
        return b""

    monkeypatch.setattr(modules.limits, "STUCK_SECONDS", 0.1)
    running = make(function, concurrency=1, timeout=0.2)
    assert running.call()[0] == 504
    # The caller was not kept waiting for it.
    assert not over
    deadline = time.monotonic() + 10
    while not running.left and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running.left == [modules.limits.REPLACED]
    # Its place was never given to another request.
    assert running.call()[0] == 503
    assert not running.limited.ready
    release.set()


def test_a_function_that_fails_answers_500_without_saying_why(make: Make) -> None:
    def function(_: dict[str, Any]) -> bytes:
        sys.exit("the password is swordfish")

    running = make(function)
    status, _, body = running.call()
    assert status == 500
    assert b"swordfish" not in body
    assert running.call()[0] == 500


def test_a_long_body_is_refused(make: Make, modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules.front, "LINGER_SECONDS", 0.1)
    running = make(lambda _: b"")
    assert running.call(b"x" * (modules.bodies.MOST_BYTES + 1))[0] == 413


@pytest.mark.parametrize(
    ("given", "request_id", "trace_id"),
    [
        ({"x-request-id": "r-1"}, "r-1", None),
        ({"x-request-id": "two words"}, None, None),
        ({"x-request-id": "x" * 129}, None, None),
        ({"x-request-id": 'a"\n{'}, None, None),
        ({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, "a" * 32, "a" * 32),
        ({"traceparent": f"00-{'0' * 32}-{'b' * 16}-01"}, None, None),
        ({"traceparent": "nonsense"}, None, None),
        ({}, None, None),
    ],
)
def test_ids(
    modules: Any, given: dict[str, str], request_id: str | None, trace_id: str | None
) -> None:
    who = modules.identity.of(given)
    assert len(who.trace_id) == 32
    assert who.trace_id == (trace_id or who.trace_id)
    assert who.request_id == (request_id or who.trace_id)
    assert who.traceparent.split("-")[1] == who.trace_id
    if trace_id:
        # What it calls has this request as its parent, not this request's own.
        assert who.traceparent.split("-")[2] != "b" * 16
        assert who.traceparent.endswith("-01")


def test_printed_lines_of_threads_do_not_mix(modules: Any) -> None:
    out = io.StringIO()
    printed = modules.logs.Printed(modules.logs.Log("shop", out), "info")
    printed.write("one ")
    other = threading.Thread(target=printed.write, args=("two\n",))
    other.start()
    other.join()
    printed.write("one\nlast")
    printed.flush()
    messages = [json.loads(line)["message"] for line in out.getvalue().splitlines()]
    assert messages == ["two", "one one", "last"]


def test_what_is_no_text_is_a_line_that_others_can_read(modules: Any) -> None:
    out = io.StringIO()
    modules.logs.Log("shop", out).write("info", "a\udcffb")
    assert json.loads(out.getvalue())["message"] == "a?b"


def test_logging_with_a_wrong_format_is_a_line_too(modules: Any) -> None:
    out = io.StringIO()
    handler = modules.logs._Handler(modules.logs.Log("shop", out))
    handler.emit(logging.LogRecord("a", logging.ERROR, "", 0, "%d", ("x",), None))
    assert json.loads(out.getvalue())["level"] == "error"


def test_health_answers_while_every_place_is_taken(make: Make) -> None:
    release, taken = threading.Event(), threading.Event()

    def function(_: dict[str, Any]) -> bytes:
        taken.set()
        release.wait(20)
        return b""

    running = make(function, concurrency=1)
    busy = threading.Thread(target=running.call)
    busy.start()
    assert taken.wait(10)
    try:
        answers = {}
        for path in ("/healthz", "/readyz", "/metrics", "/other"):
            connection = http.client.HTTPConnection(
                "127.0.0.1", running.served.health_port, timeout=10
            )
            connection.request("GET", path)
            answer = connection.getresponse()
            answers[path] = (answer.status, answer.read().decode())
            connection.close()
    finally:
        release.set()
        busy.join()
    assert [answers[p][0] for p in ("/healthz", "/readyz", "/metrics", "/other")] == [
        200, 200, 200, 404,
    ]  # fmt: skip
    assert 'function_running{function="shop"} 1' in answers["/metrics"][1]


def test_a_missing_function_is_named(modules: Any, tmp_path: Path) -> None:
    (tmp_path / "shop_file.py").write_text("def handler(context):\n    pass\n")
    module = modules.source.load(str(tmp_path / "shop_file.py"), {"random_name": str})
    assert module.random_name is str
    with pytest.raises(LookupError, match="has no function handle; it has handler"):
        modules.source.function(module, "handle")


# slow clients

until = partial(waiting.soon, seconds=30)
HEAD = b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n"


def answers(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            got += piece
    return got


def test_clients_that_send_one_byte_of_ten_stop_nobody(make: Make) -> None:
    running = make(lambda environ: environ["wsgi.input"].read(), concurrency=1, waiting=1)
    with begun(running.served.port, HEAD % 10 + b"x", 60) as slow:
        assert running.call(b"hello")[2] == b"hello"
        with begun(running.served.port, HEAD[:20], 60):
            assert running.call(b"hello")[2] == b"hello"
        assert trickled(slow, b"123456789") == 60
        assert answers_one(slow[0]).endswith(b"x123456789")


def ended(connection: socket.socket) -> bool:
    """Whether it is ended, or will be."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [b"", HEAD[:20], HEAD % 10 + b"x"], ids=["none", "head", "body"])
def test_connections_that_wait_for_longest_end_where_there_are_too_many(
    make: Make, modules: Any, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(modules.connections, "MOST_CONNECTIONS", 4, raising=False)
    release, taken = threading.Event(), threading.Event()

    def function(environ: dict[str, Any]) -> bytes:
        if environ["PATH_INFO"] == "/held":
            taken.set()
            release.wait(30)
        body: bytes = environ["wsgi.input"].read()
        return body

    running = make(function, concurrency=2)
    whole = (HEAD % 10 + b"0123456789").replace(b"POST / ", b"POST /held ")
    with begun(running.served.port, whole) as (held,):
        assert taken.wait(30)
        with (
            begun(running.served.port, sent, 4) as older,
            begun(running.served.port, sent, 4) as newer,
        ):
            assert all(ended(one) for one in older)
            # The newest has room too.
            assert running.call(b"hello")[2] == b"hello"
            assert ended(newer[0])
        release.set()
        assert answers_one(held).endswith(b"0123456789"), "who is answered is not ended"


def test_health_has_no_thread_for_each_who_asks_and_the_newest_is_answered(make: Make) -> None:
    running = make(lambda _: b"")
    running.call()
    before = threading.active_count()
    with begun(running.served.health_port, b"GET /", 100) as slow:
        connection = http.client.HTTPConnection("127.0.0.1", running.served.health_port, timeout=30)
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 200
        connection.close()
        assert threading.active_count() < before + 10
        assert ended(slow[0])


def answers_one(connection: socket.socket) -> bytes:
    """One answer on a connection that stays open; it has ten bytes."""
    got = b""
    while len(got.partition(b"\r\n\r\n")[2]) < 10:
        got += connection.recv(65536)
    return got


def bounded(running: Running, modules: Any, **more: Any) -> Running:
    """With other bounds for bodies."""
    running.limited._bodies = modules.bodies.Bodies(**more)
    return running


def test_a_body_that_does_not_come_in_time_is_408(make: Make, modules: Any) -> None:
    running = bounded(make(lambda _: b""), modules, seconds=0.05)
    with begun(running.served.port, HEAD % 10 + b"x") as (slow,):
        assert slow.recv(65536).startswith(b"HTTP/1.1 408")
    assert running.limited._bodies.held_bytes == 0


def test_bytes_count_when_they_arrive(make: Make, modules: Any) -> None:
    running = bounded(make(lambda _: b"done"), modules, most=100, slow_seconds=1000)
    bodies = running.limited._bodies
    with begun(running.served.port, HEAD % 90 + b"x" * 60):
        until(lambda: bodies.held_bytes == 60)
        status, headers, _ = running.call(b"y" * 50)
        assert (status, headers["retry-after"]) == (503, "1")
        assert running.call(b"y" * 40)[0] == 200
    until(lambda: bodies.held_bytes == 0)


def test_a_slow_body_gives_room_to_others(make: Make, modules: Any) -> None:
    running = bounded(make(lambda _: b"done"), modules, most=100, slow_seconds=0)
    with begun(running.served.port, HEAD % 90 + b"x" * 60) as (slow,):
        until(lambda: running.limited._bodies.held_bytes == 60)
        assert running.call(b"y" * 50)[0] == 200
        assert slow.recv(65536).startswith(b"HTTP/1.1 408")


def test_the_room_for_bodies_follows_the_memory(
    modules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules.bodies, "_MEMORY", tmp_path / "memory.max")
    rooms = {}
    for text in ("", "max\n", str(64 * 2**20), str(112 * 2**20), str(2**30)):
        (tmp_path / "memory.max").write_text(text)
        rooms[text] = modules.bodies._memory_limit() // 2**20
    assert [*rooms.values()] == [32, 32, 4, 16, 32]


@pytest.mark.parametrize("sent", [HEAD % 10 + b"x", HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") + b"9\r\nx"])  # fmt: skip
def test_a_body_that_is_cut_short_reaches_no_function(
    make: Make, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[int] = []

    def function(_: dict[str, Any]) -> bytes:
        called.append(1)
        return b""

    running = make(function)
    with begun(running.served.port, sent) as (client,):
        client.shutdown(socket.SHUT_WR)
        assert b"200" not in answers(client)
    assert running.call()[0] == 200
    assert len(called) == 1
    assert not caplog.records, "a client fills the log"


def test_what_is_no_http_is_400_and_not_logged(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    running = make(lambda _: b"")
    with begun(running.served.port, b"GET / HTTP/1.1\r\nno header\r\n\r\n") as (client,):
        assert b" 400 " in answers(client)
    assert not caplog.records


# streams


def test_what_a_function_yields_is_sent_at_once(make: Make) -> None:
    go = threading.Event()

    def function(_: dict[str, Any]) -> Iterator[bytes]:
        yield b"one\n"
        assert go.wait(30), "nobody has read the first"
        yield b"two\n"

    running = make(function)
    connection = http.client.HTTPConnection("127.0.0.1", running.served.port, timeout=30)
    connection.request("POST", "/")
    answer = connection.getresponse()
    assert answer.readline() == b"one\n"
    go.set()
    assert answer.read() == b"two\n"
    connection.close()
    assert running.lines()[-1]["status"] == 200


@pytest.mark.parametrize("how", ["out of time", "fails"])
def test_a_stream_without_its_end_is_broken_off(
    make: Make, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    def function(_: dict[str, Any]) -> Iterator[bytes]:
        yield b"one\n"
        while how == "out of time":
            time.sleep(0.001)
        raise ValueError("in the middle")

    running = make(function, timeout=0.1 if how == "out of time" else 30)
    with begun(running.served.port, b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n") as (client,):
        got = answers(client)
    assert not got.endswith(b"0\r\n\r\n")
    assert not caplog.records
    until(lambda: not running.limited.activity()["busy"])
    assert "the response was not sent completely" in running.out.getvalue()


def test_a_client_that_does_not_read_a_stream_does_not_stick(make: Make) -> None:
    ended = threading.Event()

    def function(_: dict[str, Any]) -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 2**20
        finally:
            ended.set()

    running = make(function, timeout=0.3, concurrency=1)
    with begun(running.served.port, b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"):
        assert ended.wait(30)
        until(lambda: not running.limited.activity()["busy"])
    assert running.limited.ready


def test_a_client_that_goes_ends_its_stream(make: Make) -> None:
    ended = threading.Event()

    def function(_: dict[str, Any]) -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.set()

    running = make(function)
    with begun(running.served.port, b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n") as (client,):
        assert client.recv(10)
    assert ended.wait(30)


# giving way


def test_giving_way_those_that_wait_hear_it(
    make: Make, modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def function(_: dict[str, Any]) -> bytes:
        release.wait(30)
        return b""

    limited, places = modules.limits.Limited, modules.places.Places
    look_after, take = limited._check_stuck, places.take
    stuck: list[Any] = []
    monkeypatch.setattr(modules.limits, "STUCK_SECONDS", 0)
    monkeypatch.setattr(limited, "_check_stuck", lambda _, call: stuck.append(call))
    # However long that takes here, they wait.
    monkeypatch.setattr(places, "take", lambda self, _: take(self, 60))
    running = make(function, concurrency=1, waiting=4, timeout=0.05)
    assert running.call()[0] == 504
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(running.call) for _ in range(2)]
        until(lambda: running.limited.activity()["busy"] == 3)
        with begun(running.served.port, HEAD % 10 + b"x") as (slow,):
            until(lambda: running.limited._bodies.held_bytes == 1)
            until(lambda: bool(stuck))
            running.served.run(look_after, running.limited, stuck[0])
            assert b"being replaced" in slow.recv(65536)
        refused = [one.result() for one in others]
    assert [one[0] for one in refused] == [503, 503]
    assert all(b"being replaced" in one[2] for one in refused)
    assert refused[0][1]["connection"] == "close"
    until(lambda: running.left == [modules.limits.REPLACED])
    release.set()


def test_told_to_end_a_body_that_still_comes_is_refused(make: Make) -> None:
    running = make(lambda _: b"")
    with begun(running.served.port, HEAD % 10 + b"x") as (slow,):
        until(lambda: running.limited._bodies.held_bytes == 1)
        running.served.run(running.limited.draining)
        assert slow.recv(65536).startswith(b"HTTP/1.1 503")


# as it came


def test_the_environment_is_as_wsgi_has_it(make: Make) -> None:
    seen: dict[str, Any] = {}

    def function(environ: dict[str, Any]) -> bytes:
        seen.update(environ)
        return b""

    running = make(function)
    head = (
        b"POST http://shop:81/a%2Fb/gr%C3%B6%C3%9Fe?q=%20? HTTP/1.1\r\nHost: shop:81\r\nX-Two: 1\r\n"
        b"X-Two: 2\r\nX_Under: 1\r\nCookie: a=1\r\nCookie: b=2\r\nContent-Type: a/b\r\n"
        b"X-Name: gr\xc3\xb6\xdfe\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
    )
    with begun(running.served.port, head) as (client,):
        assert answers(client).startswith(b"HTTP/1.1 200")
    expected = {
        "PATH_INFO": "/a/b/größe".encode().decode("latin-1"), "QUERY_STRING": "q=%20?",
        "RAW_URI": "/a%2Fb/gr%C3%B6%C3%9Fe?q=%20?", "HTTP_X_TWO": "1,2",
        "HTTP_COOKIE": "a=1; b=2", "CONTENT_TYPE": "a/b", "CONTENT_LENGTH": "1",
        "HTTP_X_NAME": b"gr\xc3\xb6\xdfe".decode("latin-1"), "SERVER_NAME": "shop",
        "SERVER_PORT": "81", "REMOTE_ADDR": "127.0.0.1",
    }  # fmt: skip
    assert {key: seen.get(key) for key in expected} == expected
    assert "HTTP_X_UNDER" not in seen
    assert ("X_Under", "1") in seen["function_runtime.headers"]


def test_a_compressed_body_stays_compressed(make: Make) -> None:
    running = make(lambda environ: environ["wsgi.input"].read())
    assert running.call(gzip.compress(b"x"), content_encoding="gzip")[2] == gzip.compress(b"x")


def test_an_answer_says_what_the_function_says_and_nothing_of_the_server(make: Make) -> None:
    _, headers, _ = make(lambda _: b"x").call()
    assert {*headers} == {
        "content-type", "content-length", "date", "x-request-id", "traceparent",
    }  # fmt: skip


def test_large_sums_of_seconds_are_written_out(make: Make) -> None:
    running = make(lambda _: b"")
    running.limited.metrics.answered(200, 1234567.25)
    assert 'function_seconds_sum{function="shop"} 1234567.25' in running.limited.metrics_text()
