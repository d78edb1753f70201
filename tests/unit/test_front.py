"""The example front end: whole pages, and users of every script."""

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.support.programs import program
from tests.unit.support.wire import answered, chunked, raw_server

front: Any = program("toolbox/front.py")


@pytest.fixture
def url() -> Iterator[str]:
    server = front.Server("127.0.0.1", 0, front.Front)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def asked(url: str, user: str) -> tuple[int, Any]:
    request = f"{url}/page?user={urllib.parse.quote(user)}"
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("user", ["ada", "jürgen", "ольга", "山田"])
def test_every_user_has_a_page(url: str, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(answered(b"page")) as pages:
        monkeypatch.setenv("PAGES", f"127.0.0.1:{pages.port}")
        status, content = asked(url, user)
        assert (status, content["user"], content["page"]) == (200, user, "page")
        assert f"X-User-Id: {user}\r\n".encode() in pages.requests[0]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (answered(b"x" * 100_000), 200),
        (chunked(b"x" * 90_000, b"x" * 10_000, whole=True), 200),
        (answered(b"x" * 100, length=200), 503),
        (chunked(b"x" * 100, whole=False), 503),
        (answered(b"x" * (2**20 + 1)), 503),
    ],
    ids=["long", "chunks", "short", "no last chunk", "too long"],
)
def test_a_page_is_whole_or_none(
    url: str, answer: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with raw_server(answer) as pages:
        monkeypatch.setenv("PAGES", f"127.0.0.1:{pages.port}")
        found = asked(url, "ada")
        assert found[0] == status
        if status == 200:
            assert len(found[1]["page"]) == 100_000
