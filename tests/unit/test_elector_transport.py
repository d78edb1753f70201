"""What comes from etcd's gateway: answers that are none, and watches that say nothing."""

import json
import threading
from collections.abc import Iterator

import pytest
from elector.errors import RefusedError, StoreError
from elector.etcd import Etcd, encoded, keep_alive
from elector.etcd_lock import EtcdLock
from elector.lock import Seen
from elector.observer import Observer
from elector.transport import Transport

from tests.unit.support.etcd_model import FakeClock
from tests.unit.support.memory_lock import MemoryLock, MemoryStore
from tests.unit.support.wire import answered, chunked, raw_server

KEY = "elections/duty"
NOBODY = answered(json.dumps({"header": {"revision": "7"}}).encode())
CREATED = b'{"result":{"header":{"revision":"7"},"created":true}}\n'


@pytest.mark.parametrize("body", [b"", b"<html>starting</html>", b"[1]", b"null", b'{"header":'])
def test_an_answer_that_is_no_object_is_an_error(body: bytes) -> None:
    with raw_server(answered(body)) as server:
        transport = Transport([server.url], attempt_seconds=30)
        with pytest.raises(StoreError):
            transport.request("POST", "/v3/kv/range", {})
        transport.close()


def test_another_member_is_asked_then() -> None:
    with raw_server(answered(b"")) as empty, raw_server(NOBODY) as good:
        transport = Transport([empty.url, good.url], attempt_seconds=30)
        transport._current = 0
        assert transport.request("POST", "/v3/kv/range", {}).endpoint == good.url
        transport.close()


def test_a_refusal_needs_no_words() -> None:
    with raw_server(answered(b"", status="403 Forbidden")) as server:
        transport = Transport([server.url], attempt_seconds=30)
        with pytest.raises(RefusedError):
            transport.request("POST", "/v3/kv/range", {})
        transport.close()


def test_a_keepalive_without_a_result_says_nothing_of_the_lease() -> None:
    with raw_server(answered(b"{}")) as server:
        transport = Transport([server.url], attempt_seconds=30)
        with pytest.raises(StoreError):
            keep_alive(Etcd(transport), "7001")
        transport.close()


def test_a_watch_that_says_nothing_for_a_ttl_is_asked_anew_elsewhere() -> None:
    event = {
        "kv": {
            "key": encoded(KEY),
            "value": encoded("another"),
            "create_revision": "8",
            "mod_revision": "8",
        }
    }
    line = json.dumps({"result": {"header": {"revision": "8"}, "events": [event]}}).encode() + b"\n"
    over = threading.Event()

    def wait() -> None:
        over.wait()

    # Of the same member that answers what else it is asked.
    silent = [chunked(CREATED, whole=False), b""]
    speaking = [chunked(CREATED, line, whole=False), b""]
    with (
        raw_server(NOBODY, silent, NOBODY, between=wait) as first,
        raw_server(speaking, between=wait) as second,
    ):
        transport = Transport([first.url, second.url], attempt_seconds=30)
        transport._current = transport._streaming = 0
        ttl = 2.0
        lock = EtcdLock(Etcd(transport), KEY, "me", ttl, 0.2)
        with Observer(lock) as observer:

            def follows() -> bool:
                return (
                    observer.seen is not None
                    and observer.seen.record is not None
                    and observer.seen.record.owner == "another"
                )

            try:
                with observer.changed:
                    # Less than the 30 s after which any silent watch is asked anew.
                    assert observer.changed.wait_for(follows, 25)
                assert b"POST /v3/watch" in second.requests[0]
            finally:
                over.set()
        transport.close()


def test_a_watch_that_ended_by_its_silence_is_asked_anew_without_a_longer_pause() -> None:
    clock = FakeClock()
    pauses: list[float] = []

    class Silent(MemoryLock):
        def observe(self) -> Iterator[Seen]:
            yield Seen(None, 1)
            clock.sleep(self.ttl)

    class Pauses(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0)
            return len(pauses) > 9 or super().wait(0)

    observer = Observer(Silent(MemoryStore(), "me", 2, 0.2, clock), clock)
    observer._stopped = Pauses()
    with observer:
        observer._thread.join(60)
    assert len(pauses) == 10
    assert max(pauses) <= 0.1
