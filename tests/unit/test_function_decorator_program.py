"""The decorator's way to the service and back: nothing is rewritten that is not the function's."""

import gzip
import importlib
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.wire import answered, chunked, raw_server

IMAGE = Path(__file__).parents[2] / "images" / "function"
JSON = "Content-Type: application/json"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The runtime's own modules that need no framework."""
    monkeypatch.syspath_prepend(str(IMAGE))
    for name in ("json_text", "service", "settings", "upstream"):
        importlib.import_module(f"function_runtime.{name}")
    yield sys.modules["function_runtime"]
    for name in [name for name in sys.modules if name.startswith("function_runtime")]:
        del sys.modules[name]


def asked(modules: Any, target: str, method: str = "POST", **headers: str) -> tuple[str, str]:
    """The request line and the headers that reach the service, in lower case."""
    with raw_server(answered(b"{}")) as server:
        service = modules.service.Service(f"127.0.0.1:{server.port}", 20)
        given = [(key.replace("_", "-"), value) for key, value in headers.items()]
        service.call(method, target, given, b"x" if method == "POST" else b"")
        first, _, rest = server.requests[0].decode().partition("\r\n")
    return first, rest.lower()


@pytest.mark.parametrize(
    "target",
    ["/a%3Fadmin=1", "/%2e%2e/secret", "/a%2Fb", "/a?q=what?", "/a?", "/a%20b", "//a/../b?x=%26"],
)
def test_a_target_arrives_as_it_came(modules: Any, target: str) -> None:
    assert asked(modules, target)[0] == f"POST {target} HTTP/1.1"


def test_bytes_that_no_target_has_are_encoded(modules: Any) -> None:
    raw = "/größe".encode().decode("latin-1")
    assert asked(modules, raw)[0] == "POST /gr%C3%B6%C3%9Fe HTTP/1.1"


def test_headers_of_the_connection_stay_there(modules: Any) -> None:
    _, rest = asked(modules, "/", Connection="close, X-Hop", X_Hop="1", TE="trailers", X_Own="2")
    assert "x-own: 2" in rest
    assert not [hop for hop in ("x-hop", "te:", "connection") if hop in rest]
    assert "accept-encoding" not in rest, "the client did not send one"


def called(modules: Any, answer: bytes, method: str = "POST") -> Any:
    with raw_server(answer) as server:
        service = modules.service.Service(f"127.0.0.1:{server.port}", 20)
        return service.call(method, "/", [], b"{}")


def test_the_answers_headers_are_kept(modules: Any) -> None:
    got = called(modules, answered(
        b'{"a": 1}', JSON, "Location: /a/1", "Set-Cookie: a=1", "Set-Cookie: b=2", 'ETag: "1"',
        "X-Hop: 1", "Connection: close, X-Hop", status="201 Created",
    ))  # fmt: skip
    assert (got.status, got.success, got.json()) == (201, True, {"a": 1})
    cookies = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    assert got.changed() == [("Content-Type", "application/json"), ("Location", "/a/1"), *cookies]
    assert got.handed_on() == [*got.changed(), ("ETag", '"1"'), ("Content-Length", "8")]


@pytest.mark.parametrize(("coding", "make"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_answer_is_read(modules: Any, coding: str, make: Any) -> None:
    got = called(modules, answered(make(b'{"a": 1}'), f"Content-Encoding: {coding}"))
    assert got.json() == {"a": 1}
    assert ("Content-Encoding", coding) in got.handed_on()
    assert ("Content-Encoding", coding) not in got.changed()


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (b"created", "identity"),
        (b"[" * 100_000, "identity"),
        (b"NaN", "identity"),
        (b"1e999", "identity"),
        (b"whatever", "br"),
        (b"whatever", "gzip"),
        (gzip.compress(b"{}")[:-1], "gzip"),
        (gzip.compress(b" " * 17 * 2**20), "gzip"),
    ],
)
def test_what_cannot_be_read_is_said_and_kept(modules: Any, body: bytes, coding: str) -> None:
    got = called(modules, answered(body, f"Content-Encoding: {coding}"))
    with pytest.raises(ValueError, match=r"."):
        got.json()
    assert got.body == body


@pytest.mark.parametrize(
    "answer", [answered(b"{}", length=3), chunked(b"{}", whole=False), b"", b"nonsense\r\n\r\n"]
)
def test_an_answer_cut_short_is_none(modules: Any, answer: bytes) -> None:
    with pytest.raises(modules.service.UnreachableError):
        called(modules, answer)


def test_the_length_of_an_answer_to_head_stays(modules: Any) -> None:
    got = called(modules, answered(b"", length=1234), "HEAD")
    assert (got.body, got.handed_on()) == (b"", [("Content-Length", "1234")])


# with the framework, as in the image


@pytest.fixture
def made(modules: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A decorator in its application."""
    framework = pytest.importorskip("functions_framework", reason="is in the image only")

    def make(code: str, port: int, on_failure: str = "closed", **more: str) -> Any:
        (tmp_path / "code.py").write_text(code)
        for key, value in {
            "FILE": str(tmp_path / "code.py"), "UPSTREAM": f"127.0.0.1:{port}",
            "ON_FAILURE": on_failure, **more,
        }.items():  # fmt: skip
            monkeypatch.setenv(f"FUNCTION_{key}", value)
        application = framework.create_app("entry", modules.entry_file(), "http")
        exceptions = importlib.import_module("werkzeug.exceptions")
        refusals = importlib.import_module("function_runtime.refusals")
        application.register_error_handler(exceptions.HTTPException, refusals.as_json)
        return application.test_client()

    return make


PASSING = "def handler(context):\n    return call_my_api(context.json)\n"
CHANGING = "def handler(context):\n    return {**call_my_api(context.json), 'by': 1}\n"
CREATED = answered(
    b'{ "a": 1 }', "Content-Type: application/hal+json", "Location: /a/1", "Set-Cookie: a=1",
    'ETag: "1"', status="201 Created",
)  # fmt: skip


def test_an_answer_that_the_function_did_not_change_is_the_services(made: Any) -> None:
    with raw_server(CREATED) as server:
        got = made(PASSING, server.port).post("/a%3Fb", json={})
        head = server.requests[0].decode()
    assert (got.status_code, got.data) == (201, b'{ "a": 1 }')
    assert [got.headers[k] for k in ("Location", "Set-Cookie", "ETag")] == ["/a/1", "a=1", '"1"']
    assert head.startswith("POST /a%3Fb HTTP/1.1")
    assert "Accept-Encoding: identity" in head


def test_an_answer_that_the_function_changed_keeps_status_and_headers(made: Any) -> None:
    with raw_server(CREATED) as server:
        got = made(CHANGING, server.port).post("/", json={})
    assert (got.status_code, got.json) == (201, {"a": 1, "by": 1})
    assert got.headers["Location"] == "/a/1"
    assert got.headers["Content-Type"] == "application/hal+json"
    assert "ETag" not in got.headers
    assert got.headers["Content-Length"] == str(len(got.data))


def test_a_status_of_the_functions_own_is_its_own(made: Any) -> None:
    code = "def handler(context):\n    return call_my_api(context.json), 202\n"
    with raw_server(CREATED) as server:
        assert made(code, server.port).post("/", json={}).status_code == 202


@pytest.mark.parametrize("status", ["200 OK", "409 Conflict"])
def test_an_answer_that_is_no_json_passes_as_it_came(made: Any, status: str) -> None:
    with raw_server(answered(b"done", "Content-Type: text/plain", status=status)) as server:
        got = made(CHANGING, server.port).post("/", json={})
        assert len(server.requests) == 1
    assert (got.status, got.data, got.content_type) == (status.upper(), b"done", "text/plain")


@pytest.mark.parametrize("body", [b"{broken", b'{"a": NaN}', b'{"a": 1e999}', b"[" * 100_000])
def test_malformed_json_is_refused_in_json(made: Any, body: bytes) -> None:
    with raw_server(b"") as server:
        got = made(PASSING, server.port).post("/", data=body)
        assert not server.requests
    assert (got.status_code, got.content_type) == (400, "application/json")
    assert "not JSON" in json.loads(got.data)["error"]
