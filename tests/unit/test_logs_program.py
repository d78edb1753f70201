"""The log adapter's program: one form, each entry once, nothing lost, memory bounded."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.live.support import storm as stand_in
from tests.unit.support.companions import FOLDER, program
from tests.unit.support.log_entries import SCHEMA, checked
from tests.unit.support.wire import answered, chunked, raw_server

main = program("logs.__main__")
entry = program("logs.entry")
redis = program("logs.redis")
sink = program("logs.sink")
storm = program("logs.storm")


def test_the_schema_refuses_what_is_not_of_it() -> None:
    good = checked(entry.Entry("1", 0.0, "storm", "m"))
    for key in good:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({k: v for k, v in good.items() if k != key}, SCHEMA)
    changes: list[dict[str, Any]] = [
        {"more": 1}, {"severity": "fatal"}, {"time": "now"}, {"attributes": {"a": []}},
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, **change}, SCHEMA)


def test_long_texts_are_cut_and_strange_ones_survive() -> None:
    text = 'a "quote" \n\t\x00 \u2028 ü' + "x" * 20000
    written = checked(entry.Entry("1", 1.5, "storm", text, attributes={"a": text, "b": 1}))
    assert len(written["message"]) == entry.LONGEST_MESSAGE
    assert len(written["attributes"]["a"]) == entry.LONGEST_ATTRIBUTE
    assert written["time"] == "1970-01-01T00:00:01.500Z"


def test_half_a_surrogate_pair_is_written_as_an_escape() -> None:
    """JSON can bring one, as in Storm's lastError; UTF-8 has no bytes for it."""
    text = json.loads('"half \\ud800 \\ud83d\\ude00"')
    found = entry.Entry(f"i{text}", 0.0, "storm", text, client=text, attributes={"a": text})
    written = json.loads(found.line("one").encode())
    expected = "half \\ud800 \U0001f600"
    assert written["message"] == written["client"] == written["attributes"]["a"] == expected
    assert written["id"] == f"one:i{expected}"


@pytest.mark.parametrize(
    "change", [{"time": 1e18}, {"time": float("nan")}, {"duration_ms": float("nan")},
               {"duration_ms": float("inf")}, {"duration_ms": -1.0}],
)  # fmt: skip
def test_what_could_not_be_written_is_no_entry(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        entry.Entry(**{"id": "1", "time": 0.0, "kind": "storm", "message": "m", **change})


# redis


class FakeRedis:
    """The slow log of a server, as its client gives it."""

    def __init__(self) -> None:
        self.run, self.next, self.ring = "run-a", 0, 128
        self.log: list[list[Any]] = []

    def add(self, *words: str, name: str = "") -> None:
        raw = [word.encode() for word in words]
        self.log.insert(0, [self.next, 1795557601, 20000, raw, b"127.0.0.1:5", name.encode()])
        self.next += 1
        del self.log[self.ring :]

    def restart(self) -> None:
        self.run, self.next, self.log = f"{self.run}+", 0, []

    def command(self, *words: str) -> Any:
        return f"# Server\r\nrun_id:{self.run}\r\n".encode() if words[0] == "INFO" else self.log

    def close(self) -> None:
        pass


def test_ipv6_is_asked_without_its_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def connect(address: Any, timeout: float) -> Any:
        asked.append((address, timeout))
        raise OSError

    monkeypatch.setattr(redis.socket, "create_connection", connect)
    with pytest.raises(OSError):  # noqa: PT011 (of the stand-in)
        redis.Client("[::1]:6379", None, None)
    assert asked == [(("::1", 6379), redis.TIMEOUT_SECONDS)]


def slowlog(server: Any, position: dict[str, Any], lost: Any = lambda _: None) -> Any:
    source = redis.Slowlog({"address": "127.0.0.1:1"}, position, lost)
    source._client = server
    return source


def test_each_slow_command_once_across_polls_and_lives() -> None:
    server = FakeRedis()
    server.add("SET", "a", "1")
    server.add("GET", "a")
    source = slowlog(server, {})
    first = list(source.read())
    assert [checked(e)["message"] for e, _ in first] == ["SET a 1", "GET a"]
    assert checked(first[0][0])["id"] == "one:run-a:0"
    assert checked(first[0][0])["duration_ms"] == 20
    assert list(source.read()) == []
    server.add("GET", "b")
    ((third, position),) = slowlog(server, first[-1][1]).read()
    assert third.message == "GET b"
    # The server is started again: its numbers begin at 0, and are other entries.
    server.restart()
    server.add("GET", "c")
    ((_, _), (fourth, _)) = slowlog(server, position).read()
    assert checked(fourth)["id"] == "one:run-a+:0"


def test_what_the_ring_overwrote_is_said() -> None:
    server = FakeRedis()
    server.ring = 4
    server.add("GET", "0")
    lost: list[int] = []
    source = slowlog(server, {}, lost.append)
    list(source.read())
    for number in range(1, 10):
        server.add("GET", str(number))
    found = [checked(e) for e, _ in source.read()]
    assert lost == [5]
    assert found[0]["severity"] == "error"
    assert found[0]["attributes"] == {"lost": 5}
    assert [e["message"] for e in found[1:]] == ["GET 6", "GET 7", "GET 8", "GET 9"]
    # What a server that is seen for the first time had forgotten is nobody's loss.
    assert len(list(slowlog(server, {}, lost.append).read())) == 4
    assert lost == [5]
    # But the beginning of its next life is.
    server.restart()
    for number in range(6):
        server.add("GET", str(number))
    list(source.read())
    assert lost == [5, 2]


def test_what_a_log_that_was_empty_at_first_lost_is_said() -> None:
    server = FakeRedis()
    lost: list[int] = []
    source = slowlog(server, {}, lost.append)
    ((nothing, position),) = source.read()
    assert nothing is None
    for number in range(200):
        server.add("GET", str(number))
    # By the one that had looked, and by another life of it.
    for reader in (source, slowlog(server, position, lost.append)):
        gap, *rest = (e for e, _ in reader.read())
        assert gap.attributes == {"lost": 72}
        assert [e.message for e in rest] == [f"GET {number}" for number in range(72, 200)]
    assert lost == [72, 72]


@pytest.mark.parametrize(
    "answer",
    [
        b"$99999999999\r\n",
        b"$x\r\n",
        b"+a\r",
        b"$-1\r\n*0\r\n",
        pytest.param(b"*1\r\n" * 10_000, id="deep"),
    ],
)
def test_an_answer_that_is_none_ends_the_connection(answer: bytes) -> None:
    client = redis.Client.__new__(redis.Client)
    client._socket, other = socket.socketpair()
    client._file = client._socket.makefile("rb")
    source = slowlog(client, {})
    with other:
        other.sendall(answer)
        other.shutdown(socket.SHUT_WR)
        with pytest.raises((OSError, redis.RedisError, ValueError, RecursionError)):
            list(source.read())
    assert source._client is None
    assert client._file.closed


def test_its_own_commands_are_no_entries_but_count() -> None:
    server = FakeRedis()
    server.add("INFO", "server", name=redis.CLIENT_NAME)
    ((found, position),) = slowlog(server, {}).read()
    assert found is None
    assert position == {"run_id": "run-a", "last_id": 0}


# storm


def test_storms_samples_come_once_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"url": "http://x", "window": 600, "sys": 0, "interval_seconds": 60}
    clock = [1795557600.0]
    monkeypatch.setattr(storm.time, "time", lambda: clock[0])
    asked: list[str] = []

    def get(_: Any, path: str) -> Any:
        asked.append(path)
        return stand_in.SUMMARY if path.endswith("summary") else stand_in.DETAILS

    monkeypatch.setattr(storm.Storm, "_get", get)
    source = storm.Storm(settings, {})
    found = list(source.read())
    written = [checked(e) for e, _ in found]
    assert len(written) == 4
    assert asked[1] == f"/api/v1/topology/{stand_in.TOPOLOGY}?window=600&sys=0"
    by_name = {w["attributes"]["name"]: w for w in written}
    assert by_name["wordcount"]["attributes"]["emitted"] == 397960
    assert by_name["split"]["severity"] == "error"
    clock[0] += 59
    assert list(source.read()) == []
    # A life that ended in the middle of a sample: the rest of it, and nothing twice.
    rest = list(storm.Storm(settings, found[1][1]).read())
    assert [e.id for e, _ in rest] == [e.id for e, _ in found[2:]]
    assert list(storm.Storm(settings, found[-1][1]).read()) == []
    clock[0] += 1
    again = list(source.read())
    assert len(again) == 4
    assert not {e.id for e, _ in again} & {e.id for e, _ in found}


def test_a_source_that_fails_is_down_until_it_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"url": "http://x", "window": 600, "sys": 0, "interval_seconds": 60}
    monkeypatch.setattr(storm.time, "time", lambda: 1795557600.0)
    summary = {"topologies": [{"id": "gone"}, *stand_in.SUMMARY["topologies"]]}
    failing = {"summary", "gone"}

    def get(_: Any, path: str) -> Any:
        if failing & {path.partition("?")[0].rpartition("/")[2]}:
            raise OSError(path)
        return summary if path.endswith("summary") else stand_in.DETAILS

    monkeypatch.setattr(storm.Storm, "_get", get)
    source = storm.Storm(settings, {})
    for _ in range(2):
        with pytest.raises(OSError, match="summary"):
            list(source.read())
    # One that cannot be read holds up none of the others, and they do not come again.
    failing.remove("summary")
    found: list[Any] = []
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            found.extend(source.read())
    failing.clear()
    found.extend(source.read())
    assert len(found) == 4 + 4
    assert list(source.read()) == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (answered(b'{"topologies": []}', length=30), "truncated to 18 of 30 bytes"),
        (chunked(b'{"topologies": []}', whole=False), "IncompleteRead|ends"),
        (answered(b"[" * 100_000), "recursion"),
        (answered(b"{}", status="500 No"), "500"),
    ],
)
def test_an_answer_of_storm_is_whole_or_an_error(answer: bytes, expected: str) -> None:
    with raw_server(answer) as server:
        source = storm.Storm({"url": server.url, "window": 1, "sys": 0, "interval_seconds": 1}, {})
        with pytest.raises(Exception, match=expected):
            list(source.read())


def test_a_source_that_falls_silent_is_not_up(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    settings = {"name": "web", "kind": "nginx_access", "path": str(tmp_path / "log"),
                "poll_seconds": 1.0}  # fmt: skip
    reader = main.Reader(settings, sink.Sink(str(tmp_path)), threading.Event())
    assert not reader.is_up()
    reader._once(False)
    assert reader.is_up()
    # As if it had waited for one answer ever since.
    reader._progress -= 1.0 + main.STALE_SECONDS
    assert not reader.is_up()
    os.close(reader._sink._files["web"])
    reader.source._tail._file.close()


def test_figures_that_are_none_are_left_out() -> None:
    source = storm.Storm({"window": 600}, {})
    part = {"emitted": "NaN", "acked": 10**400, "completeLatency": -1, "failed": "1e999"}
    written = checked(source._entry(0.0, "t-1", "t", "bolt", "b", {**part, "lastError": "\ud800"}))
    assert written["message"] == "\\ud800"
    assert written["duration_ms"] is None
    assert not {"emitted", "acked", "failed"} & set(written["attributes"])


# the whole


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Any]:
    """Starts the program on one access log; its output is a pipe that nobody reads by itself."""
    log, positions = tmp_path / "access.log", tmp_path / "positions"
    positions.mkdir()
    config = tmp_path / "config.json"
    source = {"name": "web", "kind": "nginx_access", "path": str(log), "poll_seconds": 0.05}
    settings = {"port": 0, "positions": str(positions), "sources": [source]}
    config.write_text(json.dumps(settings))
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "companions.logs", str(config)],
            env={**os.environ, "PYTHONPATH": str(FOLDER)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    yield log, start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def access_line(number: int) -> bytes:
    agent = "x" * 200
    return (
        f'1.2.3.4 - - [24/Nov/2026:21:55:46 +0000] "GET /{number} HTTP/1.1" 200 6 "-" "{agent}" '
        "rt=0.001\n"
    ).encode()


def numbers(output: bytes) -> list[int]:
    return [int(n) for n in re.findall(rb'"message":"GET /(\d+) HTTP', output)]


def resident(process: subprocess.Popen[bytes]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])


def catches(process: subprocess.Popen[bytes], number: int) -> bool:
    """Whether it has a handler of the signal by now."""
    caught = re.findall(r"SigCgt:\s+(\w+)", Path(f"/proc/{process.pid}/status").read_text())
    return bool(int(caught[0], 16) >> (number - 1) & 1)


def test_an_output_that_takes_nothing_stops_the_reading_and_memory_stays(running: Any) -> None:
    log, start = running
    log.write_bytes(b"".join(access_line(n) for n in range(200)))
    process = start()
    assert process.stdout is not None
    # It is at work, and has loaded what it needs.
    assert select.select([process.stdout], [], [], 20)[0]
    time.sleep(1.0)
    before = resident(process)
    with log.open("ab") as more:
        # 60 MiB that nobody takes from it.
        for block in range(60):
            more.write(b"".join(access_line(n) for n in range(block, block + 3700)))
    time.sleep(1.5)
    assert resident(process) - before < 8 << 10, "kB more than before"
    assert process.poll() is None


def test_each_entry_once_though_it_is_killed_again_and_again(running: Any) -> None:
    log, start = running
    seen: list[int] = []
    total = 1000
    for life in range(4):
        with log.open("ab") as more:
            more.write(b"".join(access_line(life * total + n) for n in range(total)))
        process = start()
        assert process.stdout is not None
        if life < 3:
            # In the middle of its work; what it had written is in the pipe.
            output = os.read(process.stdout.fileno(), 40000)
            process.kill()
        else:
            # It reads to the end before it goes; by now it listens to signals.
            output = b""
            while len(output) < 60000:
                output += os.read(process.stdout.fileno(), 65536)
            process.terminate()
        output += process.stdout.read()
        seen += numbers(output)
        process.wait()
    counted = Counter(seen)
    assert set(counted) == set(range(4 * total)), "none is lost"
    twice = [n for n, count in counted.items() if count > 1]
    # A kill between the write and its position repeats that entry, and no other.
    assert len(twice) <= 3, twice


def test_bad_lines_and_rotation_end_neither_the_reading_nor_the_stopping(running: Any) -> None:
    log, start = running
    # What a client gives as its name in basic auth; it ended the reading for ever.
    bad = access_line(1).replace(b" - - ", b" - a [b ")
    log.write_bytes(access_line(0) + bad + access_line(2) + b"half")
    process = start()
    assert process.stdout is not None
    output = b""
    while b"GET /2 " not in output:
        output += os.read(process.stdout.fileno(), 65536)
    log.rename(log.with_name("access.log.1"))
    log.write_bytes(access_line(3))
    while b"GET /3 " not in output:
        output += os.read(process.stdout.fileno(), 65536)
    while not catches(process, signal.SIGTERM):
        time.sleep(0.01)
    process.terminate()
    output += process.stdout.read()
    assert process.wait() == 0
    written = [json.loads(line) for line in output.splitlines()]
    assert [w["message"] for w in written] == [
        "GET /0 HTTP/1.1 200", "GET /1 HTTP/1.1 200", "GET /2 HTTP/1.1 200", "half",
        "GET /3 HTTP/1.1 200",
    ]  # fmt: skip
    assert len({w["id"] for w in written}) == len(written)
