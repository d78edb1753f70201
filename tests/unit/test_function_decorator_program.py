"""The decorator's way to the service and back: nothing is rewritten that is not the function's."""

import gzip
import importlib
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.function_image import Got, Served, runtime
from tests.unit.support.wire import answered, chunked, raw_server

JSON = "Content-Type: application/json"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The runtime's own modules that need no framework."""
    with runtime(
        monkeypatch, ("front", "json_text", "limits", "logs", "service", "settings")
    ) as made:
        yield made


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
    assert got.headers_of_new_body() == [
        ("Content-Type", "application/json"),
        ("Location", "/a/1"),
        *cookies,
    ]
    assert got.forwarded_headers() == [
        *got.headers_of_new_body(),
        ("ETag", '"1"'),
        ("Content-Length", "8"),
    ]


@pytest.mark.parametrize(("coding", "make"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_answer_is_read(modules: Any, coding: str, make: Any) -> None:
    got = called(modules, answered(make(b'{"a": 1}'), f"Content-Encoding: {coding}"))
    assert got.json() == {"a": 1}
    assert ("Content-Encoding", coding) in got.forwarded_headers()
    assert ("Content-Encoding", coding) not in got.headers_of_new_body()


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
    ids=range(8),
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
    assert (got.body, got.forwarded_headers()) == (b"", [("Content-Length", "1234")])


# with the framework, as in the image


Call = Callable[..., Got]


@pytest.fixture
def made(modules: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Makes a decorator that is served until the test ends, and calls it."""
    framework = pytest.importorskip("functions_framework", reason="is in the image only")
    served: list[Served] = []

    def make(code: str, port: int) -> Call:
        (tmp_path / "code.py").write_text(code)
        monkeypatch.setenv("FUNCTION_FILE", str(tmp_path / "code.py"))
        monkeypatch.setenv("FUNCTION_UPSTREAM", f"127.0.0.1:{port}")
        application = framework.create_app("entry", modules.entry_file(), "http")
        exceptions = importlib.import_module("werkzeug.exceptions")
        refusals = importlib.import_module("function_runtime.refusals")
        application.register_error_handler(exceptions.HTTPException, refusals.as_json)
        log = modules.logs.Log("shop", io.StringIO())
        limited = modules.limits.Limited(application, modules.settings.Settings(), log)
        served.append(Served(modules, limited))
        return served[-1].call

    yield make
    for one in served:
        one.close()


PASSING = "def handler(context):\n    return call_my_api(context.json)\n"
CHANGING = "def handler(context):\n    return {**call_my_api(context.json), 'by': 1}\n"
CREATED = answered(
    b'{ "a": 1 }', "Content-Type: application/hal+json", "Location: /a/1", "Set-Cookie: a=1",
    'ETag: "1"', status="201 Created",
)  # fmt: skip


def test_an_answer_that_the_function_did_not_change_is_the_services(made: Any) -> None:
    with raw_server(CREATED) as server:
        call = made(PASSING, server.port)
        status, headers, body = call(b"{}", target="/a%3Fb?c=d?", x_own="1", accept_encoding="br")
        head = server.requests[0].decode()
    assert (status, body) == (201, b'{ "a": 1 }')
    assert [headers[k] for k in ("location", "set-cookie", "etag")] == ["/a/1", "a=1", '"1"']
    assert head.startswith("POST /a%3Fb?c=d? HTTP/1.1")
    assert "Accept-Encoding: identity" in head
    assert "x-own: 1" in head
    assert head.lower().count("\nhost:") == 1
    assert head.lower().count("\nx-request-id:") == 1


def test_what_is_not_decorated_passes_as_it_came(made: Any) -> None:
    coded = gzip.compress(b"x")
    with raw_server(answered(coded, "Content-Encoding: gzip", "X_Under: 1")) as server:
        call = made(CHANGING, server.port)
        status, headers, body = call(method="GET", target="/%2e%2e/a", accept_encoding="gzip")
        head = server.requests[0].decode()
    assert (status, body, headers["content-encoding"]) == (200, coded, "gzip")
    assert "content-type" not in headers
    assert head.startswith("GET /%2e%2e/a HTTP/1.1")
    assert "accept-encoding: gzip" in head.lower()


def test_an_answer_that_the_function_changed_keeps_status_and_headers(made: Any) -> None:
    with raw_server(CREATED) as server:
        status, headers, body = made(CHANGING, server.port)(b"{}")
    assert (status, json.loads(body)) == (201, {"a": 1, "by": 1})
    assert headers["location"] == "/a/1"
    assert headers["content-type"] == "application/hal+json"
    assert "etag" not in headers


def test_a_status_of_the_functions_own_is_its_own(made: Any) -> None:
    code = "def handler(context):\n    return call_my_api(context.json), 202\n"
    with raw_server(CREATED) as server:
        assert made(code, server.port)(b"{}")[0] == 202


@pytest.mark.parametrize("status", [200, 409])
def test_an_answer_that_is_no_json_passes_as_it_came(made: Any, status: int) -> None:
    with raw_server(answered(b"done", "Content-Type: a/b", status=f"{status} Fine")) as server:
        got, headers, body = made(CHANGING, server.port)(b"{}")
        assert len(server.requests) == 1
    assert (got, body, headers["content-type"]) == (status, b"done", "a/b")


@pytest.mark.parametrize(
    "body", [b"{broken", b'{"a": NaN}', b'{"a": 1e999}', b"[" * 100_000], ids=range(4)
)
def test_malformed_json_is_refused_in_json(made: Any, body: bytes) -> None:
    with raw_server(b"") as server:
        status, headers, said = made(PASSING, server.port)(body)
        assert not server.requests
    assert (status, headers["content-type"]) == (400, "application/json")
    assert "not JSON" in json.loads(said)["error"]
