"""The runtime of functions: limits, ids and logs, without the framework that it stands around."""

import contextlib
import http.client
import importlib
import io
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

IMAGE = Path(__file__).parents[2] / "images" / "function"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The runtime's own modules, as they are imported in the image."""
    monkeypatch.syspath_prepend(str(IMAGE))
    for name in ("health", "identity", "limits", "logs", "settings", "source"):
        importlib.import_module(f"function_runtime.{name}")
    yield sys.modules["function_runtime"]
    for name in [name for name in sys.modules if name.startswith("function_runtime")]:
        del sys.modules[name]


class Running:
    """A limited function, called as a server would call it."""

    def __init__(self, modules: Any, function: Callable[[dict[str, Any]], bytes], **more: Any):
        self.out = io.StringIO()
        self.left: list[int] = []
        """Statuses with which the process would have ended."""
        settings = modules.settings.Settings(name="shop", **more)

        def application(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
            body = function(environ)
            start("200 OK", [("Content-Type", "text/plain")])
            return [body]

        self.limited = modules.limits.Limited(
            application, settings, modules.logs.Log("shop", self.out), self.left.append
        )
        self.limited.start()

    def call(self, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """What the client gets: the answer, or what was sent in its place."""
        ours, theirs = socket.socketpair()
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/",
            "wsgi.input": io.BytesIO(body),
            "gunicorn.socket": theirs,
            **{f"HTTP_{key.upper()}": value for key, value in headers.items()},
        }

        def serve() -> None:
            said: list[Any] = []
            body = self.limited(environ, lambda *given: said.extend(given))
            lines = [f"HTTP/1.1 {said[0]}", *(f"{k}: {v}" for k, v in said[1])]
            with contextlib.suppress(OSError):
                theirs.sendall("\r\n".join([*lines, "", ""]).encode() + b"".join(body))
            if hasattr(body, "close"):
                body.close()
            theirs.close()

        threading.Thread(target=serve, daemon=True).start()
        ours.settimeout(30)
        head, _, content = b"".join(iter(lambda: ours.recv(65536), b"")).partition(b"\r\n\r\n")
        ours.close()
        first, *rest = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), content

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]


def test_the_answer_is_the_functions(modules: Any) -> None:
    running = Running(modules, lambda environ: environ["wsgi.input"].read().upper())
    status, headers, body = running.call(b"hello", x_request_id="r-1")
    assert (status, body) == (200, b"HELLO")
    assert headers["X-Request-Id"] == "r-1"
    (line,) = running.lines()
    assert (line["message"], line["request_id"], line["status"]) == ("answered", "r-1", 200)


def test_no_more_at_once_than_the_concurrency(modules: Any) -> None:
    now: list[int] = []
    most: list[int] = []

    def function(_: dict[str, Any]) -> bytes:
        now.append(1)
        most.append(len(now))
        assert turned_away.wait(20)
        now.pop()
        return b""

    running = Running(modules, function, concurrency=2, waiting=3)
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


def test_out_of_time_the_answer_is_complete_however_soon_the_function_ends(
    modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_late = modules.limits.Limited._answer_late

    def later(limited: Any, call: Any) -> None:
        # The function has got its exception by then.
        time.sleep(0.3)
        answer_late(limited, call)

    monkeypatch.setattr(modules.limits.Limited, "_answer_late", later)

    def spin(_: dict[str, Any]) -> bytes:
        while True:
            time.sleep(0.001)

    status, headers, body = Running(modules, spin, timeout=0.2).call(x_request_id="r-1")
    assert (status, headers["X-Request-Id"]) == (504, "r-1")
    assert json.loads(body) == {"error": "not done in 0.2 s"}


def test_a_function_out_of_time_is_ended_and_its_place_is_free(modules: Any) -> None:
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
    running = Running(modules, function, concurrency=1, timeout=2)
    status, _, _ = running.call(b"spin")
    assert status == 504
    assert ended.wait(9)
    assert running.call(b"")[0] == 200
    assert running.limited.ready


def test_a_function_that_does_not_end_makes_the_process_give_way(
    modules: Any, monkeypatch: pytest.MonkeyPatch
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
    running = Running(modules, function, concurrency=1, timeout=0.2)
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


def test_a_function_that_fails_answers_500_without_saying_why(modules: Any) -> None:
    def function(_: dict[str, Any]) -> bytes:
        sys.exit("the password is swordfish")

    running = Running(modules, function)
    status, _, body = running.call()
    assert status == 500
    assert b"swordfish" not in body
    assert running.call()[0] == 500


def test_a_long_body_is_refused(modules: Any) -> None:
    running = Running(modules, lambda _: b"")
    assert running.call(b"x" * (modules.limits.MOST_BYTES + 1))[0] == 413


@pytest.mark.parametrize(
    ("given", "request_id", "trace_id"),
    [
        ({"HTTP_X_REQUEST_ID": "r-1"}, "r-1", None),
        ({"HTTP_X_REQUEST_ID": "two words"}, None, None),
        ({"HTTP_X_REQUEST_ID": "x" * 129}, None, None),
        ({"HTTP_X_REQUEST_ID": 'a"\n{'}, None, None),
        ({"HTTP_TRACEPARENT": f"00-{'a' * 32}-{'b' * 16}-01"}, "a" * 32, "a" * 32),
        ({"HTTP_TRACEPARENT": f"00-{'0' * 32}-{'b' * 16}-01"}, None, None),
        ({"HTTP_TRACEPARENT": "nonsense"}, None, None),
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


def test_logging_with_a_wrong_format_is_a_line_too(modules: Any) -> None:
    out = io.StringIO()
    handler = modules.logs._Handler(modules.logs.Log("shop", out))
    handler.emit(logging.LogRecord("a", logging.ERROR, "", 0, "%d", ("x",), None))
    assert json.loads(out.getvalue())["level"] == "error"


def test_health_answers_while_every_place_is_taken(modules: Any) -> None:
    release, taken = threading.Event(), threading.Event()

    def function(_: dict[str, Any]) -> bytes:
        taken.set()
        release.wait(20)
        return b""

    running = Running(modules, function, concurrency=1)
    busy = threading.Thread(target=running.call)
    busy.start()
    assert taken.wait(10)
    server = modules.health.serve(running.limited, 0)
    try:
        answers = {}
        for path in ("/healthz", "/readyz", "/metrics", "/other"):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
            connection.request("GET", path)
            answer = connection.getresponse()
            answers[path] = (answer.status, answer.read().decode())
            connection.close()
    finally:
        release.set()
        busy.join()
        server.shutdown()
        server.server_close()
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
