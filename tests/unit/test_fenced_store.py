"""The fenced store: what it refuses, what it remembers, and what a crash leaves."""

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.programs import program

fenced_store = program("toolbox/fenced_store.py")


def from_(value: int) -> dict[str, Any]:
    """What a holder has read, under a name that Python keeps for itself."""
    return {"from": value}


class Client:
    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, content: Any = None) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            body = content if isinstance(content, bytes) else json.dumps(content)
            connection.request(method, path, None if content is None else body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def do(self, action: str, token: int, holder: str = "a", **more: Any) -> tuple[int, Any]:
        content = {"token": token, "holder": holder, **more}
        return self.ask("POST", f"/counters/ticks/{action}", content)

    def value(self) -> int:
        status, answer = self.ask("GET", "/counters/ticks")
        assert status == 200
        value: int = answer["value"]
        return value

    def log(self, query: str = "") -> list[dict[str, Any]]:
        attempts: list[dict[str, Any]] = self.ask("GET", f"/log{query}")[1]["attempts"]
        return attempts


class Running:
    """A store on a port of its own; ``restarted`` is another one on the same journal."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._servers: list[Any] = []

    def start(self, fenced: bool = True, **more: Any) -> Client:
        journal = fenced_store.Journal(self._journal, **more)
        server = fenced_store.Server(0, fenced_store.Store(journal, fenced), "127.0.0.1")
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self._servers.append(server)
        return Client(server.server_address[1])

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    stores = Running(tmp_path / "journal")
    yield stores
    stores.stop()


@pytest.fixture
def store(running: Running) -> Client:
    return running.start()


def test_the_holder_of_the_newest_token_counts(store: Client) -> None:
    assert store.do("claim", 7) == (
        200,
        {"counter": "ticks", "value": 0, "token": 7, "holder": "a"},
    )
    assert store.do("increment", 7, **from_(0))[1]["value"] == 1
    assert store.do("increment", 7)[1]["value"] == 2
    assert store.ask("GET", "/counters/ticks")[1]["holder"] == "a"


def test_an_older_token_is_refused_with_both(store: Client) -> None:
    store.do("claim", 7)
    store.do("increment", 7)
    store.do("claim", 9, "b")
    status, answer = store.do("increment", 7, **from_(1))
    assert status == 409
    assert (answer["token"], answer["highest"]) == (7, 9)
    assert store.value() == 1


def test_a_claim_keeps_out_the_write_that_comes_between_read_and_write(store: Client) -> None:
    """Without it the new holder's first write would undo one that was acknowledged after its read."""
    store.do("claim", 1, "old")
    assert store.do("claim", 2, "new")[1]["value"] == 0
    assert store.do("increment", 1, "old", **from_(0))[0] == 409
    assert store.do("increment", 2, "new", **from_(0))[1]["value"] == 1


def test_without_fencing_the_late_write_is_taken_and_the_counter_goes_back(
    running: Running,
) -> None:
    store = running.start(fenced=False)
    store.do("claim", 1, "old")
    store.do("claim", 2, "new")
    for value in range(3):
        store.do("increment", 2, "new", **from_(value))
    assert store.do("increment", 1, "old", **from_(0))[0] == 200
    assert store.value() == 1
    last = store.log()[-1]
    assert (last["token"], last["highest"], last["accepted"]) == (1, 2, True)
    # The highest stays what it was, or the next late write could not be told.
    assert store.do("increment", 1, "old")[0] == 200
    assert store.log()[-1]["highest"] == 2


def test_counters_are_fenced_each_for_itself(store: Client) -> None:
    store.do("claim", 7)
    assert store.ask("POST", "/counters/other/claim", {"token": 1, "holder": "b"})[0] == 200


def test_the_log_has_every_attempt(store: Client) -> None:
    store.do("claim", 2, belief={"since": 1.0, "until": 2})
    store.do("increment", 1, "late")
    store.ask("POST", "/counters/other/claim", {"token": 1, "holder": "b"})
    store.do("release", 2)
    log = store.log()
    assert [e["number"] for e in log] == [1, 2, 3, 4]
    assert [e["action"] for e in log] == ["claim", "increment", "claim", "release"]
    assert [e["accepted"] for e in log] == [True, False, True, True]
    assert log[0]["belief"] == {"since": 1.0, "until": 2.0}
    assert abs(log[-1]["at"] - time.monotonic()) < 60
    assert [e["number"] for e in store.log("?after=1&counter=ticks")] == [2, 4]
    assert [e["number"] for e in store.log("?accepted=false")] == [2]
    assert [e["number"] for e in store.log("?after=-2")] == [3, 4]
    assert [e["number"] for e in store.log("?after=-99")] == [1, 2, 3, 4]
    assert store.ask("GET", "/counters/ticks")[1]["holder"] is None


def test_the_log_waits_for_what_comes(store: Client) -> None:
    found: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: found.extend(store.log("?after=0&wait=20")))
    waiting.start()
    time.sleep(0.1)
    store.do("claim", 3)
    waiting.join(10)
    assert [e["token"] for e in found] == [3]


def test_the_log_is_bounded(store: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fenced_store, "PAGE", 2)
    for _ in range(3):
        store.do("claim", 3)
    assert [e["number"] for e in store.log()] == [1, 2]
    assert [e["number"] for e in store.log("?after=2")] == [3]


def test_what_was_acknowledged_is_there_after_a_restart(running: Running) -> None:
    store = running.start()
    store.do("claim", 5)
    store.do("increment", 5)
    store.do("increment", 4, "late")
    again = running.start()
    assert again.value() == 1
    assert again.do("increment", 4, "late")[0] == 409
    assert [e["number"] for e in again.log()] == [1, 2, 3, 4]


def test_a_line_cut_off_by_a_crash_is_forgotten(running: Running, tmp_path: Path) -> None:
    store = running.start()
    store.do("increment", 5)
    store.do("increment", 5)
    journal = tmp_path / "journal"
    journal.write_bytes(journal.read_bytes()[:-10])
    again = running.start()
    assert again.value() == 1
    assert again.do("increment", 5)[1]["value"] == 2
    assert running.start().value() == 2


def test_the_journal_is_compacted(running: Running, tmp_path: Path) -> None:
    store = running.start(compact_bytes=2000)
    for _ in range(50):
        store.do("increment", 5)
    assert (tmp_path / "journal").stat().st_size < 2400
    again = running.start()
    assert again.value() == 50
    assert again.do("increment", 4)[0] == 409
    assert again.log()[-1]["number"] == 51


def test_it_is_on_disk_before_it_is_acknowledged(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = running.start()
    synced: list[int] = []
    real = os.fsync

    def fsync(file: int) -> None:
        real(file)
        synced.append(file)

    monkeypatch.setattr(os, "fsync", fsync)
    store.do("increment", 5)
    assert len(synced) == 1
    store.do("increment", 4)
    assert len(synced) == 1, "what is refused changes nothing"


def test_a_full_disk_is_an_error_and_changes_nothing(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = running.start()
    store.do("increment", 5)
    real = os.write

    def half(file: int, data: bytes) -> int:
        return real(file, data[:20])

    monkeypatch.setattr(fenced_store.os, "write", half)
    status, answer = store.do("increment", 5)
    monkeypatch.undo()
    assert status == 507
    assert "disk" in answer["error"]
    assert store.value() == 1
    assert store.do("increment", 5)[1]["value"] == 2
    assert running.start().value() == 2


@pytest.mark.parametrize(
    ("path", "content", "status", "said"),
    [
        ("/counters/ticks/increment", {"holder": "a"}, 400, "token must be a whole number"),
        ("/counters/ticks/increment", {"token": True, "holder": "a"}, 400, "token must be"),
        ("/counters/ticks/increment", {"token": -1, "holder": "a"}, 400, "token must be"),
        ("/counters/ticks/increment", {"token": 2**63, "holder": "a"}, 400, "token must be"),
        ("/counters/ticks/increment", {"token": 1}, 400, "holder must have"),
        ("/counters/ticks/increment", {"token": 1, "holder": "a" * 254}, 400, "holder must have"),
        ("/counters/ticks/increment", {"token": 1, "holder": "a", "from": "0"}, 400, "from must"),
        ("/counters/ticks/claim", {"token": 1, "holder": "a", "belief": {}}, 400, "belief must"),
        ("/counters/ticks/claim", [], 400, "JSON object"),
        ("/counters/ticks/claim", b"{", 400, "JSON object"),
        pytest.param("/counters/ticks/claim", b"[" * 4000, 400, "JSON object", id="deep"),
        *(
            (
                "/counters/ticks/claim",
                b'{"token": 1, "holder": "a", "belief": {"since": %s, "until": 2}}' % number,
                400,
                "belief must",
            )
            for number in (b"NaN", b"1e999", b"1" + b"0" * 400)
        ),
        pytest.param("/counters/ticks/claim", b"x" * 5000, 413, "at most 4096", id="too long"),
        ("/counters/Ticks/claim", {"token": 1, "holder": "a"}, 400, "lower-case letters"),
        ("/counters/ticks/steal", {"token": 1, "holder": "a"}, 404, "claim, increment, release"),
    ],
    ids=str,
)
def test_what_cannot_be_right_is_refused(
    store: Client, path: str, content: Any, status: int, said: str
) -> None:
    answered, answer = store.ask("POST", path, content)
    assert answered == status
    assert said in answer["error"]
    assert store.log() == []


@pytest.mark.parametrize(
    "query", ["after=x", "wait=x", "wait=nan", "wait=inf", "accepted=maybe", "counter=X"]
)
def test_a_question_that_cannot_be_right_is_refused(store: Client, query: str) -> None:
    assert store.ask("GET", f"/log?{query}")[0] == 400


@pytest.mark.parametrize(
    ("length", "body", "status"),
    [("²", b"", b" 413 "), ("-1", b"", b" 413 "), ("10", b"{}", b" 400 ")],
)
def test_a_body_without_an_end_is_refused_and_the_client_told(
    store: Client, length: str, body: bytes, status: bytes
) -> None:
    head = f"POST /counters/ticks/claim HTTP/1.1\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", store.port), timeout=30) as connection:
        connection.sendall(head.encode("utf-8") + body)
        connection.shutdown(socket.SHUT_WR)
        assert status in connection.recv(65536)


def test_so_many_counters_and_no_more(store: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fenced_store, "MOST_COUNTERS", 1)
    assert store.do("claim", 1)[0] == 200
    assert store.ask("POST", "/counters/other/claim", {"token": 1, "holder": "a"})[0] == 507
    assert store.do("claim", 1)[0] == 200


def test_two_holders_at_once_are_served_one_after_the_other(store: Client) -> None:
    def count() -> None:
        for _ in range(20):
            store.do("increment", 1)

    threads = [threading.Thread(target=count) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.value() == 100
