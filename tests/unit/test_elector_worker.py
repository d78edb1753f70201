"""An application that asks its elector no more gives leadership up, and takes part when it asks."""

import http.client
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import elector.__main__
import pytest
from elector.election import Election
from elector.metrics import Metrics
from elector.server import Local, Public, serve
from elector.worker import Worker

from tests.ports import free_ports
from tests.unit.support import waiting
from tests.unit.support.etcd_model import FakeClock
from tests.unit.support.memory_lock import MemoryLock, MemoryStore

# The time to live is never over: it is not by that that somebody follows.
TTL, RENEW, MARGIN, SILENCE = 600.0, 200.0, 1.0, 5.0
Enter = Callable[..., Election]
soon = partial(waiting.soon, seconds=60)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def enter(store: MemoryStore, clock: FakeClock) -> Iterator[Enter]:
    entered: list[Election] = []

    def one(owner: str, worker_seconds: float | None = SILENCE) -> Election:
        lock = MemoryLock(store, owner, TTL, MARGIN, clock)
        entered.append(
            Election("duty", lock, RENEW, Metrics(), clock=clock, worker_seconds=worker_seconds)
        )
        entered[-1].start()
        soon(lambda: entered[-1].ready)
        return entered[-1]

    yield one
    for election in entered:
        election.stop()


def leads(election: Election) -> bool:
    return bool(election.status()["leading"])


def lost(election: Election) -> int:
    (line,) = (
        line
        for line in election.metrics().splitlines()
        if line.startswith("elector_workers_lost_total{")
    )
    return int(line.split()[-1])


def test_who_was_seen_gone_is_gone_until_it_is_taken_back(clock: FakeClock) -> None:
    worker = Worker(SILENCE, clock)
    assert worker.left() == 0, "it has never asked"
    assert not worker.back()
    assert worker.polled()
    assert worker.left() == 0
    assert worker.back()
    assert worker.left() == SILENCE
    clock.sleep(SILENCE - 1)
    assert worker.left() == 1
    assert not worker.polled()
    clock.sleep(SILENCE)
    assert worker.polled(), "it had been silent for too long"
    assert worker.left() == 0
    assert worker.back()
    assert worker.left() == SILENCE


def test_a_silent_worker_costs_the_leadership_until_it_asks_again(
    enter: Enter, store: MemoryStore, clock: FakeClock
) -> None:
    one = enter("one")
    time.sleep(0.3)
    assert "acquire" not in store.calls, "it campaigns for a worker that has never asked"
    assert 'elector_campaigning{election="duty",identity="one"} 0' in one.metrics()
    one.polled()
    soon(lambda: leads(one))
    two = enter("two", None)
    clock.sleep(SILENCE - 1)
    one.polled()
    clock.sleep(SILENCE - 1)
    assert leads(one)
    assert lost(one) == 0
    clock.sleep(1.5)
    assert not leads(one), "it leads for a worker that is gone"
    soon(lambda: leads(two))
    assert two.status()["token"] == 2
    assert lost(one) == 1
    assert two.resign()
    time.sleep(0.3)
    assert not leads(one)
    assert store.calls.count("acquire") == 2
    one.polled()
    soon(lambda: leads(one))
    assert one.alive
    assert one.status()["token"] == 3
    assert lost(one) == 1


def test_a_worker_that_asks_too_late_gets_a_new_term(
    enter: Enter, store: MemoryStore, clock: FakeClock
) -> None:
    one = enter("one")
    one.polled()
    soon(lambda: leads(one))
    clock.sleep(SILENCE + 1)
    # Before anybody has seen that it was silent.
    one.polled()
    soon(lambda: leads(one))
    assert one.status()["token"] == 2
    assert store.calls.count("release") == 1
    assert lost(one) == 1


def test_no_answer_is_good_for_longer_than_the_worker_may_be_silent(
    enter: Enter, clock: FakeClock
) -> None:
    one = enter("one")
    one.polled()
    soon(lambda: leads(one))
    one.polled()
    assert one.status()["valid_for"] == SILENCE
    clock.sleep(3)
    assert one.status()["valid_for"] == SILENCE - 3


def test_who_may_be_silent_leads_for_as_long_as_it_renews(enter: Enter, clock: FakeClock) -> None:
    one = enter("one", None)
    soon(lambda: leads(one))
    clock.sleep(TTL - MARGIN - 1)
    assert leads(one)
    assert one.status()["valid_for"] == 1
    assert lost(one) == 0


def test_a_resignation_outlasts_the_workers_silence(enter: Enter, clock: FakeClock) -> None:
    one = enter("one")
    one.polled()
    soon(lambda: leads(one))
    one.resign()
    clock.sleep(SILENCE + 1)
    soon(lambda: lost(one))
    one.polled()
    time.sleep(0.3)
    assert not leads(one)
    one.campaign()
    soon(lambda: leads(one))


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("POST", "/campaign"), ("POST", "/resign")]
)
def test_what_the_worker_asks_for_is_a_question(
    enter: Enter, clock: FakeClock, method: str, path: str
) -> None:
    one = enter("one")
    server = serve(one, Local, "127.0.0.1", 0)
    try:
        ask(server.server_port, method, path)
        soon(lambda: one._worker_left() == SILENCE)
        clock.sleep(3)
        ask(server.server_port, method, path)
        assert one._worker_left() == SILENCE
    finally:
        server.shutdown()
        server.server_close()


def test_a_stream_that_nobody_may_read_and_the_kubelets_questions_are_none(
    enter: Enter, clock: FakeClock
) -> None:
    one = enter("one")
    local, public = (serve(one, kind, "127.0.0.1", 0) for kind in (Local, Public))
    events = http.client.HTTPConnection("127.0.0.1", local.server_port, timeout=60)
    try:
        ask(local.server_port, "GET", "/")
        soon(lambda: one._worker_left() == SILENCE)
        clock.sleep(3)
        events.request("GET", "/events")
        assert json.loads(events.getresponse().readline())["election"] == "duty"
        for path in ("/healthz", "/readyz", "/metrics"):
            ask(public.server_port, "GET", path)
        assert one._worker_left() == SILENCE - 3
    finally:
        events.close()
        for server in (local, public):
            server.shutdown()
            server.server_close()


def ask(port: int, method: str, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()
    finally:
        connection.close()


def test_the_command_line_says_how_long_it_may_be_silent(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers: list[Callable[..., None]] = []
    monkeypatch.setattr(signal, "signal", lambda _, handler: handlers.append(handler))
    lock = MemoryLock(store, "one", TTL, MARGIN)
    monkeypatch.setattr(elector.__main__, "make_lock", lambda _: lock)
    port, metrics_port = free_ports(2)
    given = [
        *("--backend", "lease", "--election", "duty", "--ttl", "600", "--renew", "200"),
        *("--margin", "1", "--port", str(port), "--metrics-port", str(metrics_port)),
        *("--worker-seconds", "300"),
    ]
    running = threading.Thread(target=elector.__main__.main, args=[given])
    running.start()
    try:
        soon(lambda: answers(metrics_port))
        text = ask(metrics_port, "GET", "/metrics")
        assert 'elector_campaigning{election="duty",identity="one"} 0' in text
        valid_for = soon(lambda: json.loads(ask(port, "GET", "/"))["valid_for"])
        assert 0 < valid_for <= 300
    finally:
        handlers[0]()
        running.join(60)
    assert not running.is_alive()


def answers(port: int) -> bool:
    try:
        return "true" in ask(port, "GET", "/healthz")
    except (OSError, AssertionError):
        # It answers before the election has begun.
        return False
