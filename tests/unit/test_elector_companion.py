"""The companion above its backends: how it leads, what it says, and what it refuses."""

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from elector.__main__ import arguments, main, make_lock
from elector.belief import monotonic
from elector.election import Election
from elector.errors import StoreError
from elector.lock import Grant, Record, Seen
from elector.metrics import Metrics
from elector.notify import Notifier, Signal, Url
from elector.observer import Observer
from elector.server import Local, Public, serve

from tests.ports import free_port
from tests.unit.support import waiting
from tests.unit.support.memory_lock import MemoryLock, MemoryStore
from tests.unit.support.starting import at_last, starting
from tests.unit.support.wire import answered, chunked, raw_server

# Long enough for a machine that is busy with other tests.
TTL, RENEW, MARGIN = 3.0, 0.4, 0.3


class Candidate:
    """An election with its lock, and what it has told."""

    def __init__(self, store: MemoryStore, owner: str, ttl: float, renew: float) -> None:
        self.told: list[tuple[float, dict[str, Any]]] = []
        self.metrics = Metrics()
        self.lock = MemoryLock(store, owner, ttl, MARGIN)
        self.election = Election("duty", self.lock, renew, self.metrics, self._tell)
        self.election.start()

    def _tell(self, standing: dict[str, Any]) -> None:
        self.told.append((monotonic(), standing))

    def leads(self) -> bool:
        return bool(self.election.status()["leading"])


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def enter(store: MemoryStore) -> Iterator[Callable[..., Candidate]]:
    entered: list[Candidate] = []

    def one(owner: str, ttl: float = TTL, renew: float = RENEW) -> Candidate:
        entered.append(Candidate(store, owner, ttl, renew))
        return entered[-1]

    yield one
    store.down = False
    for candidate in entered:
        candidate.election.stop()


soon = partial(waiting.soon, seconds=10)
Enter = Callable[..., Candidate]


def test_one_leads_and_the_other_knows_who(enter: Enter, store: MemoryStore) -> None:
    one = enter("one")
    soon(one.leads)
    two = enter("two")
    soon(lambda: two.election.status()["leader"] == "one")
    assert one.election.status()["token"] == 1
    assert two.election.ready
    assert two.election.alive
    renewals = store.calls.count("extend")
    time.sleep(TTL)
    assert one.leads()
    assert store.calls.count("extend") > renewals
    assert store.calls.count("acquire") == 1, "who waits asks nothing"


def test_who_resigns_waits_to_be_asked(enter: Enter) -> None:
    one = enter("one")
    soon(one.leads)
    two = enter("two")
    assert one.election.resign()
    assert not one.leads()
    soon(two.leads)
    assert two.election.status()["token"] == 2
    assert two.election.resign()
    time.sleep(0.3)
    assert not one.leads()
    one.election.campaign()
    soon(one.leads)


def test_a_store_that_is_gone_ends_the_belief_before_the_grant(
    enter: Enter, store: MemoryStore
) -> None:
    one = enter("one")
    soon(one.leads)
    store.down = True
    gone = monotonic()
    soon(lambda: not one.leads())
    assert monotonic() - gone > RENEW, "it was believed as long as it was granted"
    # Told by a thread that waits for nothing but the clock.
    soon(lambda: one.told[-1][1]["leading"] is False)
    assert one.election.status()["valid_for"] == 0
    token = store.version
    store.down = False
    soon(one.leads)
    assert one.election.status()["token"] > token, "a new term has a new token"


def test_a_lock_that_is_taken_away_is_noticed_without_a_renewal(
    enter: Enter, store: MemoryStore
) -> None:
    one = enter("one", ttl=60, renew=30)
    soon(one.leads)
    store.change("somebody", store.version + 1)
    soon(lambda: not one.leads())
    soon(lambda: one.election.status()["leader"] == "somebody")
    assert "extend" not in store.calls


def test_a_release_that_fails_is_said_and_ends_the_belief(enter: Enter, store: MemoryStore) -> None:
    one = enter("one")
    soon(one.leads)
    store.down = True
    assert one.election.resign() is False
    assert not one.leads()


def test_changes_are_told_in_order_and_renewals_are_none(enter: Enter) -> None:
    one = enter("one")
    soon(one.leads)
    time.sleep(3 * RENEW)
    one.election.resign()
    soon(lambda: len(one.told) == 2)
    assert [(s["leader"], s["leading"], s["token"]) for _, s in one.told] == [
        ("one", True, 1),
        (None, False, None),
    ]


def test_subscribers_hear_how_it_stands_and_each_change(enter: Enter) -> None:
    one = enter("one")
    soon(one.leads)
    subscriber = one.election.subscribe()
    assert subscriber is not None
    assert subscriber.get(timeout=10)["leading"] is True  # type: ignore[index]
    one.election.resign()
    assert subscriber.get(timeout=10)["leading"] is False  # type: ignore[index]
    one.election.stop()
    assert subscriber.get(timeout=10) is None
    assert one.election.subscribe() is None


class Breaking(MemoryLock):
    """A lock whose stream breaks after its first word."""

    observed = 0

    def observe(self) -> Iterator[Seen]:
        self.observed += 1
        yield Seen(Record("somebody", 1), 1)
        if self.observed % 2:
            raise StoreError("the watch was canceled")


def test_a_stream_that_breaks_is_not_asked_for_again_and_again(store: MemoryStore) -> None:
    lock = Breaking(store, "one", TTL, MARGIN)
    with Observer(lock) as observer:
        soon(lambda: observer.seen)
        time.sleep(1)
        assert lock.observed < 8
    # Nor one that was never there.
    store.down = True
    lock = Breaking(store, "one", TTL, MARGIN)
    asked: list[int] = []

    def down() -> Iterator[Seen]:
        asked.append(1)
        raise StoreError("nobody there")

    lock.observe = down  # type: ignore[method-assign]
    with Observer(lock):
        time.sleep(1)
        assert 0 < len(asked) < 8


# HTTP


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_two_ports_and_what_each_offers(enter: Enter) -> None:
    one = enter("one")
    soon(one.leads)
    local, public = (serve(one.election, kind, "127.0.0.1", 0) for kind in (Local, Public))
    try:
        status, body = ask(local.server_port, "/")
        standing = json.loads(body)
        assert status == 200
        assert 0 < standing.pop("valid_for") <= TTL - MARGIN
        assert standing == {
            "election": "duty",
            "identity": "one",
            "leader": "one",
            "leading": True,
            "token": 1,
        }
        assert ask(public.server_port, "/healthz")[0] == 200
        assert ask(public.server_port, "/readyz")[0] == 200
        text = ask(public.server_port, "/metrics")[1]
        assert 'elector_leading{election="duty",identity="one"} 1' in text
        assert 'elector_leader{election="duty",identity="one",leader="one"} 1' in text
        # Neither port has what the other has.
        assert ask(public.server_port, "/")[0] == 404
        assert ask(public.server_port, "/resign", "POST")[0] == 501
        assert ask(local.server_port, "/metrics")[0] == 404
        assert ask(local.server_port, "/resign")[0] == 404
        assert one.leads()
        status, body = ask(local.server_port, "/resign", "POST")
        assert json.loads(body)["released"] is True
        assert not one.leads()
        assert ask(local.server_port, "/campaign", "POST")[0] == 200
        soon(one.leads)
    finally:
        for server in (local, public):
            server.shutdown()
            server.server_close()


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: \xb2",
        b"Content-Length: -1",
        b"Content-Length: 65537",
        b"Transfer-Encoding: chunked",
    ],
)
def test_a_body_whose_end_is_not_known_is_refused(enter: Enter, header: bytes) -> None:
    one = enter("one")
    soon(one.leads)
    server = serve(one.election, Local, "127.0.0.1", 0)
    try:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as client:
            client.sendall(b"POST /resign HTTP/1.1\r\nHost: here\r\n" + header + b"\r\n\r\n")
            answer = client.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert one.leads()
    finally:
        server.shutdown()
        server.server_close()


def test_metrics_have_the_text_form_of_prometheus() -> None:
    metrics = Metrics()
    metrics.renewed(0.004)
    metrics.renewed(9)
    metrics.count("elections_won_total")
    text = metrics.text({"election": 'a"b'}, {"leading": 1.0}, "")
    assert text.endswith("\n")
    lines = text.splitlines()
    assert 'elector_elections_won_total{election="a\\"b"} 1' in lines
    assert 'elector_renew_seconds_bucket{election="a\\"b",le="0.005"} 1' in lines
    assert 'elector_renew_seconds_bucket{election="a\\"b",le="2.5"} 1' in lines
    assert 'elector_renew_seconds_bucket{election="a\\"b",le="+Inf"} 2' in lines
    assert 'elector_renew_seconds_count{election="a\\"b"} 2' in lines
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


def test_a_term_is_shown_with_all_its_digits() -> None:
    text = Metrics().text({}, {"term": 1_234_567, "valid_seconds": 2.5}, "")
    assert "elector_term{} 1234567\n" in text
    assert "elector_valid_seconds{} 2.5\n" in text


def test_what_is_granted_while_it_ends_is_given_back(store: MemoryStore) -> None:
    asked, answer = threading.Event(), threading.Event()

    class Slow(MemoryLock):
        def _acquire(self, seen: Record | None) -> Grant | None:
            asked.set()
            answer.wait()
            return super()._acquire(seen)

    election = Election("duty", Slow(store, "a", 60, MARGIN), RENEW, Metrics())
    election.start()
    asked.wait()
    ended = threading.Thread(target=election.stop)
    ended.start()
    # The end has begun before the store answers.
    soon(election._stopped.is_set)
    answer.set()
    ended.join()
    assert (store.owner, store.version) == ("", 1)


# Telling


class Deaf:
    """A target that hears from the given try on."""

    def __init__(self, hears_from: int) -> None:
        self.hears_from = hears_from
        self.tries = 0
        self.heard: list[Mapping[str, Any]] = []

    def notify(self, standing: Mapping[str, Any]) -> None:
        self.tries += 1
        if self.tries < self.hears_from:
            raise OSError("not yet")
        self.heard.append(standing)


def test_it_is_told_again_until_it_is_heard() -> None:
    target = Deaf(3)
    notifier = Notifier(target, Metrics())
    notifier.post({"leading": True})
    # Who is not there is not waited for, but told later.
    assert notifier.settle(60)
    assert target.tries == 1
    soon(lambda: target.heard)
    assert target.tries == 3
    assert target.heard == [{"leading": True}]


def test_what_is_outdated_is_not_told_any_more() -> None:
    target = Deaf(1_000)
    notifier = Notifier(target, Metrics())
    notifier.post({"number": 1})
    soon(lambda: target.tries >= 1)
    notifier.post({"number": 2})
    target.hears_from = 0
    soon(lambda: target.heard)
    assert target.heard == [{"number": 2}]


@pytest.mark.parametrize(
    ("comm", "cmdline", "found"),
    [
        ("web", "/usr/bin/web\0--port\x0080\0", True),
        ("python3", "/usr/bin/python3\0/opt/web\0", True),
        ("sh", "sh\0-c\0sleep 5; web\0", False),
        ("other", "/usr/bin/other\0", False),
        ("", "", False),
    ],
)
def test_a_process_is_found_by_name_or_script(
    tmp_path: Path, comm: str, cmdline: str, found: bool
) -> None:
    folder = tmp_path / "4242"
    folder.mkdir()
    (folder / "comm").write_text(f"{comm}\n")
    (folder / "cmdline").write_text(cmdline)
    (tmp_path / str(os.getpid())).mkdir()
    (tmp_path / "meminfo").mkdir()
    assert Signal("web", "HUP", tmp_path).processes() == ([4242] if found else [])


def test_a_signal_without_a_process_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no process web"):
        Signal("web", "SIGHUP", tmp_path).notify({})
    with pytest.raises(KeyError):
        Signal("web", "HANG")


@pytest.mark.parametrize("listens", ["handler", "wait"])
def test_a_process_that_is_starting_is_told_once_it_listens(tmp_path: Path, listens: str) -> None:
    with starting(tmp_path, listens) as (name, go_on):
        target = Signal(name, "USR1")
        with pytest.raises(OSError, match="does not handle SIGUSR1"):
            target.notify({})
        go_on()
        at_last(lambda: target.notify({}), OSError)


def test_a_signal_that_may_be_meant_to_end_a_program_is_sent_whoever_listens() -> None:
    seconds = f"600.{os.getpid()}"
    with subprocess.Popen(["sleep", seconds]) as process:
        # Before it has its own name, it has this program's.
        target = Signal(seconds, "TERM")
        soon(target.processes)
        target.notify({})
        assert process.wait() == -signal.SIGTERM


def test_a_process_with_a_name_in_no_encoding_ends_nothing(tmp_path: Path) -> None:
    for number, comm in ((4242, b"\xff\xfe"), (4243, b"web")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "comm").write_bytes(comm + b"\n")
        (folder / "cmdline").write_bytes(comm + b"\0")
    assert Signal("web", "HUP", tmp_path).processes() == [4243]


def test_whatever_a_target_raises_the_next_change_is_told() -> None:
    class Broken(Deaf):
        def notify(self, standing: Mapping[str, Any]) -> None:
            if standing["number"] == 1:
                raise ZeroDivisionError
            super().notify(standing)

    target = Broken(0)
    notifier = Notifier(target, Metrics())
    notifier.post({"number": 1})
    assert notifier.settle(60)
    notifier.post({"number": 2})
    soon(lambda: target.heard)
    assert notifier.alive


def test_an_election_whose_telling_has_ended_is_not_alive(store: MemoryStore) -> None:
    working = True
    lock = MemoryLock(store, "a", TTL, MARGIN)
    election = Election("duty", lock, RENEW, Metrics(), notifier_alive=lambda: working)
    election.start()
    try:
        soon(lambda: election.alive)
        working = False
        assert not election.alive
    finally:
        election.stop()


@pytest.mark.parametrize("found", [[1, 2], [2, 3]])
def test_the_own_process_is_told_though_another_users_has_its_name(
    found: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    def kill(pid: int, _: int) -> None:
        if pid != 2:
            raise PermissionError
        sent.append(pid)

    monkeypatch.setattr(os, "kill", kill)
    target = Signal("web", "HUP", tmp_path)
    target.processes = lambda: found  # type: ignore[method-assign]
    target.notify({})
    assert sent == [2]
    target.processes = lambda: [3]  # type: ignore[method-assign]
    with pytest.raises(OSError, match="process 3 belongs to another user"):
        target.notify({})


@pytest.mark.parametrize(
    "answer",
    [answered(b""), answered(b"heard"), b"HTTP/1.1 204 No Content\r\n\r\n",
     chunked(b"heard", whole=True)],
)  # fmt: skip
def test_a_url_gets_the_standing(answer: bytes) -> None:
    with raw_server(answer) as server:
        Url(f"{server.url}/leadership?of=duty", 60).notify({"leading": True})
        assert server.requests[0].startswith(b"POST /leadership?of=duty HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (answered(b"", status="503 Busy"), "status 503"),
        # Not followed either: where it leads to nobody would answer.
        (answered(b"", "Location: http://127.0.0.1:1/", status="302 Found"), "status 302"),
        (answered(b"hea", length=5), "truncated"),
        (chunked(b"hea", whole=False), "IncompleteRead"),
        (b"200 fine\r\n\r\n", "BadStatusLine"),
        (b"", "RemoteDisconnected"),
    ],
)
def test_anything_but_a_whole_2xx_of_a_url_is_an_error(answer: bytes, message: str) -> None:
    with raw_server(answer) as server, pytest.raises(OSError, match=message):
        Url(server.url, 60).notify({})


@pytest.mark.parametrize(
    "beginning",
    [b"HTTP/1.1 200 OK\r\nA: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"],
    ids=["head", "body", "body without length"],
)  # fmt: skip
def test_an_answer_that_trickles_has_an_end(beginning: bytes) -> None:
    over = threading.Event()
    parts = [beginning, *[b"x"] * 3000]

    def wait() -> None:
        over.wait(0.1)

    with raw_server(parts, between=wait) as server:
        began = monotonic()
        with pytest.raises(OSError, match="no complete response in 1 s"):
            Url(server.url, timeout=1).notify({})
        over.set()
    # It would have trickled for five minutes.
    assert monotonic() - began < 60


def test_a_signal_arrives() -> None:
    heard = threading.Event()
    before = signal.signal(signal.SIGUSR2, lambda *_: heard.set())
    try:
        target = Signal("this", "USR2")
        target.processes = lambda: [os.getpid()]  # type: ignore[method-assign]
        target.notify({})
        assert heard.wait(5)
    finally:
        signal.signal(signal.SIGUSR2, before)


# The command line

GOOD = [
    *("--backend", "etcd", "--election", "duty", "--ttl", "10", "--renew", "3", "--margin", "1"),
    *("--endpoint", "http://a:2379", "--endpoint", "http://b:2379"),
]


def test_a_good_command_line_makes_a_lock() -> None:
    given = arguments(GOOD)
    lock = make_lock(given)
    assert (lock.key, lock.ttl, lock.margin) == ("duty", 10, 1)
    assert lock.owner == os.uname().nodename


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--ttl", "1"], "--ttl must be at least 2"),
        (["--renew", "5.1"], "--renew must be at most half"),
        (["--renew", "0"], "--renew must be"),
        (["--margin", "0"], "--margin must be"),
        (["--margin", "2.6"], "--margin must be at most a quarter"),
        (["--backend", "zookeeper"], "invalid choice"),
        (["--on-change-signal", "HUP"], "given together"),
        (["--on-change-url", "https://localhost/"], "must begin with http://"),
        (["--on-change-url", "http://localhost:99999/"], "--on-change-url"),
        (["--worker-seconds", "0"], "--worker-seconds must be above 0"),
        (["--worker-seconds", "-1"], "--worker-seconds must be above 0"),
        (["--worker-seconds", "nan"], "--worker-seconds must be above 0"),
        (["--worker-seconds", "inf"], "--worker-seconds must be above 0"),
        (["--colour", "green"], "unrecognized arguments"),
    ],
)
def test_a_bad_command_line_is_refused(
    change: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        arguments([*GOOD, *change])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["--port", "--metrics-port"])
def test_a_port_that_is_taken_is_named(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"--port": free_port(), "--metrics-port": free_port()} | {name: port}
        given = [text for pair in ports.items() for text in map(str, pair)]
        assert main([*GOOD, *given]) == 1
    assert f"{name} {port}: the port must be free: " in capsys.readouterr().err


def test_etcd_needs_an_endpoint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(GOOD[:10])
    assert "--endpoint is required" in capsys.readouterr().err
