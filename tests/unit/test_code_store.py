"""The code store over HTTP: what it takes, and what it says is wrong."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from tests.unit.support.bus import program
from tests.unit.support.wire import begun

codes: Any = program("codes")
errors: Any = codes.nats.js.errors


class Bucket:
    """As the bus keeps one, in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, int]] = {}

    async def get(self, key: str) -> Any:
        if key not in self.kept:
            raise errors.KeyNotFoundError
        value, revision = self.kept[key]
        return SimpleNamespace(value=value, revision=revision)

    async def update(self, key: str, value: bytes, revision: int) -> None:
        if self.kept.get(key, (b"", 0))[1] != revision:
            raise errors.KeyWrongLastSequenceError
        self.kept[key] = (value, revision + 1)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def port(bucket: Bucket) -> Iterator[int]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def done(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    runner = codes.served(codes.Codes(bucket, 300.0, 5, 6), lambda: True)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    async def end() -> None:
        await runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    yield done(start())
    done(end())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)
    loop.close()


def asked(port: int, content: Any, path: str = "/codes") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        body = content if isinstance(content, bytes) else json.dumps(content)
        connection.request("POST", path, body, {"Content-Type": "application/json; charset=odd"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def code(port: int, user: str, key: str) -> Any:
    status, text = asked(port, {"user": user, "key": key})
    return json.loads(text)["code"] if status == 200 else status


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"user": "\\ud800", "key": "k"}', '"user" must be a string'),
        (b'{"user": "ada", "key": "\\udfff"}', '"key" must be a string'),
        ({"user": "ada"}, '"key" must be a string'),
        ({"user": "", "key": "k"}, '"user" must be a string of 1 to 256'),
        ({"user": "u" * 257, "key": "k"}, '"user" must be a string of 1 to 256'),
        ({"user": "ada", "key": "k" * 4097}, '"key" must be a string of 1 to 4096'),
        ({"user": "ada", "key": "k", "time": ""}, '"time" must be a string'),
        ({"user": "ada", "key": "k", "time": "today"}, '"time" must be an RFC 3339 time'),
        (["user", "key"], "a JSON object"),
        (b"[" * 20000, "a JSON object"),
        (b"\x1f\x8b", "a JSON object"),
    ],
    ids=["user half", "key half", "no key", "empty", "long user", "long key", "empty time", "no time",
         "a list", "deep", "no text"],
)  # fmt: skip
def test_what_is_wrong_is_said(port: int, bucket: Bucket, content: Any, why: str) -> None:
    status, text = asked(port, content)
    assert (status, why in text) == (400, True), text
    assert not bucket.kept


def test_a_check_of_half_a_letter_is_refused(port: int) -> None:
    assert asked(port, b'{"user": "ada", "code": "\\udc00"}', "/codes/check")[0] == 400


def test_the_keys_of_deep_pipelines_are_told_apart(port: int, bucket: Bucket) -> None:
    deep = "event/signup/" + "/".join(f"step-{number:02d}" + "x" * 50 for number in range(60))
    assert 3000 < len(deep) <= 4096
    first = code(port, "ada", deep)
    assert code(port, "ada", deep) == first
    # The next of the user's ends it.
    second = code(port, "ada", f"{deep}/on")
    assert len(second) == 6
    assert code(port, "ada", deep) == 410
    assert code(port, "ada", f"{deep}/on") == second
    ((value, _),) = bucket.kept.values()
    assert len(value) < 1000, "the key itself is not kept"


def test_several_optional_words_keep_their_names() -> None:
    async def of(given: Any) -> Any:
        async def read() -> bytes:
            return json.dumps(given).encode()

        return await codes._words(SimpleNamespace(read=read), "user", one="1", two="2")

    assert asyncio.run(of({"user": "u", "two": "b"})) == {"user": "u", "one": "1", "two": "b"}
    assert asyncio.run(of({"two": "b", "one": "a", "user": "u"})) == {
        "user": "u", "one": "a", "two": "b",
    }  # fmt: skip


def test_a_body_that_trickles_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "BODY_SECONDS", 0.3)
    head = b"POST /codes HTTP/1.1\r\nHost: codes\r\nContent-Length: 90\r\n\r\n{"
    with begun(port, head) as (connection,):
        assert b" 408 " in connection.recv(65536)


def test_a_body_that_ends_too_early_makes_no_code(port: int, bucket: Bucket) -> None:
    head = b"POST /codes HTTP/1.1\r\nHost: codes\r\nContent-Length: 90\r\n\r\n"
    with begun(port, head + b'{"user": "ada", "key": "k"}') as (connection,):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    assert not bucket.kept
    assert len(code(port, "ada", "k")) == 6
