"""The demonstration workload: when it writes, when it stops, and what it says about it."""

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.programs import program
from tests.unit.support.wire import answered, raw_server

fenced_store = program("toolbox/fenced_store.py")
ticker = program("toolbox/ticker.py")


@dataclass
class FakeElector:
    """An elector that says what a test wants."""

    leading: bool = True
    token: int = 1
    valid_for: float = 5.0
    resigned: list[float] = field(default_factory=list)
    answers: bool = True

    def answer(self) -> dict[str, Any]:
        return {
            "election": "e",
            "identity": "me",
            "leader": "me" if self.leading else "other",
            "leading": self.leading,
            "token": self.token,
            "valid_for": self.valid_for if self.leading else 0,
        }


class ElectorHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        elector: FakeElector = self.server.elector  # type: ignore[attr-defined]
        if self.path != "/" or not elector.answers:
            self.send_error(503)
            return
        self._answer(elector.answer())

    def do_POST(self) -> None:
        elector: FakeElector = self.server.elector  # type: ignore[attr-defined]
        elector.resigned.append(time.monotonic())
        self._answer({})

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def serving() -> Iterator[Callable[[Any], str]]:
    servers = []

    def serve(server: Any) -> str:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        # Otherwise it waits for threads whose clients have not gone.
        server.block_on_close = False
        server.server_close()


@dataclass
class Run:
    elector: FakeElector
    store: Any
    ticker: Any
    thread: threading.Thread

    def log(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.store.log(0)["attempts"]
        return entries

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)

    def stop(self) -> None:
        self.ticker.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def run(serving: Callable[[Any], str], tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(elector: FakeElector, fenced: bool = True, **more: Any) -> Run:
        store = fenced_store.Store(fenced_store.Journal(tmp_path / "journal"), fenced)
        elector_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ElectorHandler)
        elector_server.elector = elector  # type: ignore[attr-defined]
        elector_server.daemon_threads = True
        made = ticker.Ticker(
            ticker.Elector(serving(elector_server)),
            ticker.Client(serving(fenced_store.Server(0, store, "127.0.0.1"))),
            **{"counter": "ticks", "identity": "me", "period": 0.01, "gap": 0.0, **more},
        )
        thread = threading.Thread(target=made.run, daemon=True)
        thread.start()
        runs.append(Run(elector, store, made, thread))
        return runs[-1]

    yield start
    for each in runs:
        each.stop()


def test_it_claims_then_counts_while_it_leads(run: Callable[..., Run]) -> None:
    running = run(FakeElector(token=3))
    running.until(lambda: len(running.log()) > 4)
    log = running.log()
    assert [e["action"] for e in log[:3]] == ["claim", "increment", "increment"]
    assert {e["token"] for e in log} == {3}
    assert [e["value"] for e in log[:4]] == [0, 1, 2, 3]
    belief = log[2]["belief"]
    assert belief["since"] <= log[0]["at"] < belief["until"]
    assert log[3]["belief"]["until"] > log[1]["belief"]["until"]


def test_it_writes_nothing_while_it_does_not_lead(run: Callable[..., Run]) -> None:
    running = run(FakeElector(leading=False))
    running.until(lambda: running.ticker.elector.responds)
    time.sleep(0.2)
    assert running.log() == []
    assert running.ticker.state()["leading"] is False


def test_told_that_it_no_longer_leads_it_stops_at_once(run: Callable[..., Run]) -> None:
    running = run(FakeElector())
    running.until(lambda: len(running.log()) > 2)
    running.elector.leading = False
    running.until(lambda: running.ticker.beliefs)
    told = time.monotonic()
    (belief,) = running.ticker.beliefs
    assert belief.until <= told
    running.until(lambda: running.log()[-1]["action"] == "release")
    assert running.log()[-1]["belief"]["until"] == belief.until


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_an_elector_that_does_not_answer_ends_the_belief(run: Callable[..., Run], how: str) -> None:
    running = run(FakeElector())
    running.until(lambda: len(running.log()) > 2)
    before = running.ticker.elector._client
    if how == "silent":
        running.elector.answers = False
    else:
        running.ticker.elector._client = ticker.Client("127.0.0.1:9")
    running.until(lambda: running.ticker.beliefs)
    if how == "gone":
        # Not before: until then the ticker may have been reading from it.
        before.close()
    count = len(running.log())
    time.sleep(0.1)
    assert len(running.log()) <= count + 1


def test_a_new_term_is_a_new_belief_and_a_new_claim(run: Callable[..., Run]) -> None:
    running = run(FakeElector(token=1))
    running.until(lambda: len(running.log()) > 2)
    running.elector.token = 2
    running.until(lambda: running.log()[-1]["token"] == 2)
    actions = [(e["token"], e["action"]) for e in running.log()]
    assert actions[actions.index((1, "release")) + 1] == (2, "claim")
    (first,) = running.ticker.beliefs
    assert first.token == 1


def test_refused_it_reads_again_before_it_writes(run: Callable[..., Run]) -> None:
    running = run(FakeElector(token=1))
    running.until(lambda: len(running.log()) > 2)
    running.store.attempt("ticks", "claim", {"token": 9, "holder": "other"})
    running.until(lambda: running.ticker.refused > 1)
    refused = [e for e in running.log() if not e["accepted"]]
    assert {e["action"] for e in refused[1:]} == {"claim"}


def test_stopped_it_stops_then_resigns(run: Callable[..., Run]) -> None:
    running = run(FakeElector())
    running.until(lambda: len(running.log()) > 2)
    running.stop()
    (resigned,) = running.elector.resigned
    (belief,) = running.ticker.beliefs
    assert belief.until <= resigned
    assert running.log()[-1]["action"] == "release"


GAP = 3600.0


class Gap:
    """The ticker's clock: its gap lasts as long as a test wants, however slow the machine is."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()

    def sleep(self, seconds: float) -> None:
        if seconds != GAP:
            time.sleep(seconds)
            return
        self.begun.set()
        assert self.over.wait(30)


@pytest.fixture
def gap(monkeypatch: pytest.MonkeyPatch) -> Gap:
    made = Gap()
    monkeypatch.setattr(ticker, "time", made)
    return made


def test_the_gap_lies_between_the_question_and_the_write(run: Callable[..., Run], gap: Gap) -> None:
    running = run(FakeElector(token=1), gap=GAP)
    assert gap.begun.wait(10)
    # In the gap another takes over; the write comes all the same, and is refused.
    running.elector.leading = False
    running.store.attempt("ticks", "claim", {"token": 2, "holder": "other"})
    gap.over.set()
    running.until(lambda: running.ticker.refused)
    (late,) = [e for e in running.log() if not e["accepted"] and e["action"] == "increment"]
    assert (late["token"], late["highest"]) == (1, 2)


def test_without_fencing_the_same_write_undoes_the_others_work(
    run: Callable[..., Run], gap: Gap
) -> None:
    running = run(FakeElector(token=1), fenced=False, gap=GAP)
    assert gap.begun.wait(10)
    running.elector.leading = False
    other = {"token": 2, "holder": "other"}
    value = running.store.attempt("ticks", "claim", other)["value"]
    for number in range(5):
        running.store.attempt("ticks", "increment", {**other, "from": value + number})
    gap.over.set()
    running.until(lambda: running.log()[-1]["action"] == "release")
    late = [e for e in running.log() if e["token"] == 1][-2]
    assert late["accepted"]
    assert late["value"] < late["before"]


def test_alone_it_counts_without_a_token(serving: Callable[[Any], str], tmp_path: Path) -> None:
    store = fenced_store.Store(fenced_store.Journal(tmp_path / "journal"))
    address = serving(fenced_store.Server(0, store, "127.0.0.1"))
    alone = ticker.Ticker(
        ticker.Alone(), ticker.Client(address), counter="ticks", identity="me", period=0.01, gap=0
    )
    thread = threading.Thread(target=alone.run, daemon=True)
    thread.start()
    while alone.accepted < 5:
        time.sleep(0.01)
    alone.stop()
    thread.join(10)
    assert {e["token"] for e in store.log(0)["attempts"]} == {0}


def test_its_state_can_be_asked_for(run: Callable[..., Run], serving: Callable[[Any], str]) -> None:
    running = run(FakeElector(token=4))
    running.until(lambda: running.ticker.accepted > 2)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ticker.Handler)
    server.ticker = running.ticker  # type: ignore[attr-defined]
    client = ticker.Client(serving(server))
    assert client.request("GET", "/livez") == {"live": True}
    assert client.request("GET", "/readyz") == {"ready": True}
    state = client.request("GET", "/")
    assert (state["leading"], state["token"]) == (True, 4)
    running.elector.answers = False
    running.until(lambda: not running.ticker.elector.responds)
    with pytest.raises(ticker.RefusedError, match="503"):
        client.request("GET", "/readyz")
    client.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b"null",
        b"[" * 100_000,
        b"{}",
        b'{"leading": true, "token',
        b'{"leading": true, "valid_for": 5}',
        b'{"leading": true, "token": null, "valid_for": 5}',
        b'{"leading": true, "token": 1e999, "valid_for": 5}',
        b'{"leading": true, "token": 1, "valid_for": []}',
    ],
    ids=lambda body: body[:50],
)
@pytest.mark.parametrize("length", [None, 100_001], ids=["whole", "cut"])
def test_an_elector_whose_answer_has_no_sense_has_not_answered(
    body: bytes, length: int | None
) -> None:
    with raw_server(answered(body, length=length)) as server:
        elector = ticker.Elector(f"127.0.0.1:{server.port}")
        elector.responds = True
        assert elector.poll() is None
        assert not elector.responds
        elector.close()


def test_a_refusal_is_read_whatever_it_is() -> None:
    with raw_server(answered(b"[1]", status="500 Oh")) as server:
        client = ticker.Client(f"127.0.0.1:{server.port}")
        with pytest.raises(ticker.RefusedError, match=r"500: \[1\]"):
            client.request("GET", "/")
        client.close()


def test_a_store_whose_answer_has_no_sense_is_asked_again(serving: Callable[[Any], str]) -> None:
    with raw_server(answered(b"{}")) as store:
        elector = FakeElector()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ElectorHandler)
        server.elector = elector  # type: ignore[attr-defined]
        server.daemon_threads = True
        made = ticker.Ticker(
            ticker.Elector(serving(server)),
            ticker.Client(f"127.0.0.1:{store.port}"),
            counter="ticks", identity="me", period=0.01, gap=0,
        )  # fmt: skip
        thread = threading.Thread(target=made.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while len(store.requests) < 3:
            assert time.monotonic() < deadline
            assert thread.is_alive()
            time.sleep(0.01)
        made.stop()
        thread.join(60)
        assert not thread.is_alive()


def test_it_lives_while_its_loop_turns(
    run: Callable[..., Run],
    serving: Callable[[Any], str],
    monkeypatch: pytest.MonkeyPatch,
    gap: Gap,
) -> None:
    running = run(FakeElector(), gap=GAP)
    assert gap.begun.wait(10)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ticker.Handler)
    server.ticker = running.ticker  # type: ignore[attr-defined]
    client = ticker.Client(serving(server))
    # It waits in the gap, which is as long as it is.
    assert client.request("GET", "/livez") == {"live": True}
    running.ticker._gap = 0.0
    monkeypatch.setattr(ticker, "TURN_SECONDS", 0.5)

    def hangs() -> bool:
        try:
            return not client.request("GET", "/livez")
        except ticker.RefusedError as error:
            return bool(error.status == 503)

    running.until(hangs)
    gap.over.set()
    running.until(lambda: not hangs())
    client.close()
