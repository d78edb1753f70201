"""What all companions answer with: slow clients take nobody's place, and no probe's."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.unit.support.companions import program, serving
from tests.unit.support.wire import begun, trickled

web = program("web")


def port(url: str) -> int:
    return int(url.rpartition(":")[2])


def raw(url: str, sent: bytes) -> bytes:
    """Everything that is answered to these bytes."""
    with socket.create_connection(("127.0.0.1", port(url)), timeout=30) as connection:
        connection.sendall(sent)
        found = b""
        while piece := connection.recv(65536):
            found += piece
        return found


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """What the route /slow waits for."""
    event = threading.Event()
    yield event
    event.set()


def server(held: threading.Event, **changes: Any) -> Any:
    def slow(_: Any) -> Any:
        held.wait(30)
        return web.Answer("slow\n")

    routes = {
        "/slow": slow,
        "/healthz": lambda _: web.Answer("ok\n"),
        "/quick": lambda request: web.as_json([dict(request.query), dict(request.headers)]),
        "/broken": lambda _: 1 / 0,
        "/odd": lambda _: web.Answer("\udc80\n"),
    }
    return web.Server("127.0.0.1", 0, routes, **changes)


def test_clients_that_trickle_take_nobodys_place(held: threading.Event) -> None:
    with (
        serving(server(held)) as url,
        begun(port(url), b"GET /quick HTTP/1.1\r\nX: ", 4 * web.MOST_REQUESTS) as slow,
    ):
        for _ in range(3):
            trickled(slow)
            assert requests.get(f"{url}/healthz", timeout=30).text == "ok\n"
        assert requests.get(f"{url}/quick", timeout=30).status_code == 200


def test_more_than_there_are_places_end_the_oldest(
    held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MOST_CONNECTIONS", 3)
    with serving(server(held)) as url, begun(port(url), b"GET ", 4) as slow:
        with contextlib.suppress(ConnectionResetError):
            assert slow[0].recv(1) == b""
        assert requests.get(f"{url}/healthz", timeout=30).status_code == 200
        slow[-1].sendall(b"/quick HTTP/1.1\r\n\r\n")
        assert slow[-1].recv(12) == b"HTTP/1.1 200"


def test_a_head_has_a_deadline_as_a_whole(held: threading.Event) -> None:
    with (
        serving(server(held, timeout=0.05)) as url,
        begun(port(url), b"GET /quick HTTP/1.1\r\nX: ", 3) as slow,
    ):
        deadline = time.monotonic() + 30
        # Always something new, which would put off a deadline for each byte for ever.
        while trickled(slow):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_probes_are_answered_while_all_places_are_taken(
    held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = web.MOST_REQUESTS + 2
    monkeypatch.setattr(web, "MOST_CONNECTIONS", most)
    one = server(held)
    with serving(one) as url, begun(port(url), b"GET /slow HTTP/1.1\r\n\r\n", most) as waiting:
        deadline = time.monotonic() + 30
        while one._answering < most:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert requests.get(f"{url}/healthz", timeout=30).text == "ok\n"
        # The others' places are bounded, and so are those who wait for one.
        assert b" 503 " in raw(url, b"GET /quick HTTP/1.0\r\n\r\n")
        held.set()
        assert all(client.recv(12) == b"HTTP/1.1 200" for client in waiting)


def test_who_takes_no_answer_is_cut_off() -> None:
    done = threading.Event()

    def much(_: Any) -> Any:
        # Only from here on: a busy machine may take its time for the head.
        one._timeout = 0.05
        done.set()
        return web.Answer("x" * (32 << 20))

    one = web.Server("127.0.0.1", 0, {"/much": much})
    with serving(one) as url, begun(port(url), b"GET /much HTTP/1.1\r\n\r\n") as (client,):
        assert done.wait(30)
        deadline = time.monotonic() + 30
        # It takes nothing until it is gone at the other side.
        while trickled([client]):
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"GET /quick?a=1&a=2&b= HTTP/1.1\r\nAccept:  x \r\n\r\n", b" 200 OK\r\n"),
        (b"HEAD /quick HTTP/1.1\r\n\r\n", b" 200 OK\r\n"),
        (b"POST /quick HTTP/1.1\r\n\r\n", b" 405 Method Not Allowed\r\n"),
        (b"GET /else HTTP/1.1\r\n\r\n", b" 404 Not Found\r\n"),
        (b"GET http://[/ HTTP/1.1\r\n\r\n", b" 400 Bad Request\r\n"),
        (b"GET /quick\r\n\r\n", b" 400 Bad Request\r\n"),
        (b"\x16\x03\xff\r\n\r\n", b" 400 Bad Request\r\n"),
        (b"GET /quick HTTP/1.1\r\nnonsense\r\n\r\n", b" 400 Bad Request\r\n"),
        (b"GET /broken HTTP/1.1\r\n\r\n", b" 500 Internal Server Error\r\n"),
        (b"GET /odd HTTP/1.1\r\n\r\n", b" 200 OK\r\n"),
    ],
)
def test_each_request_has_its_answer(held: threading.Event, sent: bytes, answered: bytes) -> None:
    with serving(server(held)) as url:
        head, _, body = raw(url, sent).partition(b"\r\n\r\n")
    assert answered in head + b"\r\n"
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    if sent.startswith(b"HEAD"):
        assert length > 0
        assert body == b""
    else:
        assert length == len(body)
    if b"?a=1" in sent:
        assert b'"a": "2"' in body
        assert b'"accept": "x"' in body
    if b"/odd" in sent:
        assert body == b"\\udc80\n"


def test_a_head_is_bounded(held: threading.Event) -> None:
    with (
        serving(server(held)) as url,
        begun(port(url), b"GET /quick HTTP/1.1\r\n") as (client,),
        # Whatever it still sends is taken by nobody.
        pytest.raises(OSError, match=r"reset|Broken"),
    ):
        client.sendall(b"X: " + b"y" * (32 << 20))
