"""The log adapter's program: one form, each entry once, nothing lost, memory bounded."""

import json
import os
import re
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.live.support import storm as stand_in
from tests.unit.support.companions import FOLDER, program

entry = program("logs.entry")
files = program("logs.files")
redis = program("logs.redis")
sink = program("logs.sink")
storm = program("logs.storm")
tail = program("logs.tail")

# The program keeps its log open until its end, and so do the readers that are made here.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "schemas" / "log-entry-1.json").read_text()
)
AT = {"inode": 7, "offset": 100}


def checked(found: Any, source: str = "one") -> dict[str, Any]:
    """The entry as it is written, which must follow the schema."""
    line = found.line(source)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    written: dict[str, Any] = json.loads(line)
    jsonschema.validate(written, SCHEMA)
    assert written["schema"] == SCHEMA["$id"] == entry.SCHEMA
    return written


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


# nginx


@pytest.mark.parametrize(
    ("line", "expected", "attributes"),
    [
        (
            r'10.2.0.9 - - [24/Nov/2026:21:55:46 +0000] "GET /a?b=c HTTP/1.1" 200 6 "-" "\"x" rt=0.012',
            {"severity": "info", "message": "GET /a?b=c HTTP/1.1 200", "duration_ms": 12.0,
             "client": "10.2.0.9", "time": "2026-11-24T21:55:46.000Z"},
            {"status": 200, "path": "/a?b=c", "method": "GET", "bytes": 6},
        ),
        (
            '::1 - bob [24/Nov/2026:22:55:46 +0100] "POST / HTTP/2.0" 404 - "-" "-"',
            {"severity": "warning", "duration_ms": None, "time": "2026-11-24T21:55:46.000Z"},
            {"status": 404, "bytes": 0},
        ),
        (
            '1.2.3.4 - - [24/Nov/2026:21:55:46 +0000] "\\x16\\x03" 500 0 "-" "-" rt=1.000',
            {"severity": "error", "duration_ms": 1000.0},
            {"status": 500},
        ),
        ("something else", {"severity": "warning", "message": "something else"},
         {"parsed": False}),
    ],
)  # fmt: skip
def test_access_log(line: str, expected: dict[str, Any], attributes: dict[str, Any]) -> None:
    written = checked(files.access_entry(line.encode(), AT))
    assert expected.items() <= written.items()
    assert attributes.items() <= written["attributes"].items()
    assert written["id"] == "one:7:100"


# mysql

MARIADB = """\
mariadbd, Version: 10.11.19-MariaDB. started with:
Tcp port: 3306  Unix socket: /tmp/mariadb.sock
Time                Id Command  Argument
# Time: 261124 22:00:01
# User@Host: health[health] @  [127.0.0.1]
# Thread_id: 12  Schema: shop  QC_hit: No
# Query_time: 0.050123  Lock_time: 0.000010  Rows_sent: 1  Rows_examined: 2
# Rows_affected: 0  Bytes_sent: 60
SET timestamp=1795557601;
SELECT SLEEP(0.05)
/* a; b */;
# User@Host: root[root] @ localhost []
# Thread_id: 13  Schema:   QC_hit: No
# Query_time: 1.000000  Lock_time: 0.000000  Rows_sent: 1  Rows_examined: 0
# Rows_affected: 0  Bytes_sent: 60
use shop;
SET timestamp=1795557601;
UPDATE t SET a = 1;
"""
MYSQL = """\
/usr/sbin/mysqld, Version: 8.0.36 (MySQL Community Server - GPL). started with:
Tcp port: 3306  Unix socket: /tmp/mysql.sock
Time                 Id Command    Argument
# Time: 2026-11-24T22:00:01.123456Z
# User@Host: app[app] @ web-1 [10.42.0.3]  Id:     8
# Query_time: 2.000240  Lock_time: 0.000001 Rows_sent: 1  Rows_examined: 1
SET timestamp=1795557599;
SELECT SLEEP(2);
"""


def slow_log(tmp_path: Path, text: str) -> tuple[Any, Path]:
    file = tmp_path / "slow.log"
    file.write_text(text)
    return files.SlowLog({"path": str(file)}, {}), file


def settled(source: Any) -> list[Any]:
    """Entries, once nothing has come for a while."""
    found = list(source.read())
    source._grown -= 2
    return found + list(source.read())


def test_mariadbs_slow_log(tmp_path: Path) -> None:
    source, _ = slow_log(tmp_path, MARIADB)
    first, second = (checked(e) for e, _ in settled(source))
    assert first["message"] == "SELECT SLEEP(0.05)\n/* a; b */"
    assert first["duration_ms"] == 50.123
    assert first["client"] == "127.0.0.1"
    assert first["attributes"]["user"] == "health"
    assert first["attributes"]["database"] == "shop"
    assert first["attributes"]["rows_examined"] == 2
    assert first["time"] == "2026-11-24T22:00:01.000Z"
    # The time stands before the first entry of a second only.
    assert second["message"] == "UPDATE t SET a = 1"
    assert second["client"] == "localhost"
    assert second["attributes"]["database"] == "shop"


def test_mysqls_slow_log(tmp_path: Path) -> None:
    source, _ = slow_log(tmp_path, MYSQL)
    ((found, _),) = settled(source)
    written = checked(found)
    assert written["message"] == "SELECT SLEEP(2)"
    assert written["duration_ms"] == 2000.24
    assert written["client"] == "10.42.0.3"
    assert written["time"] == "2026-11-24T21:59:59.000Z"


def test_a_slow_log_read_at_any_moment_gives_the_same_entries(tmp_path: Path) -> None:
    """Cut anywhere, as a reader meets it, and read on by another life from the kept position."""
    source, file = slow_log(tmp_path, MARIADB + MYSQL)
    whole = [e.line("x") for e, _ in settled(source)]
    assert len(whole) == 3
    raw = (MARIADB + MYSQL).encode()
    for cut in range(0, len(raw), 23):
        file.write_bytes(raw[:cut])
        found, position = [], {}
        for e, position in files.SlowLog({"path": str(file)}, {}).read():  # noqa: B007
            found.append(e.line("x"))
        file.write_bytes(raw)
        found += [e.line("x") for e, _ in settled(files.SlowLog({"path": str(file)}, position))]
        assert found == whole, cut


# files


def lines_of(source: Any) -> list[bytes]:
    return [line for line, _ in source.lines()]


def test_a_file_is_followed_through_rotation_and_emptying(tmp_path: Path) -> None:
    file = tmp_path / "log"
    reader = tail.Tail(str(file), {})
    assert lines_of(reader) == [], "there is none yet"
    file.write_bytes(b"a\nb\nhalf")
    assert lines_of(reader) == [b"a", b"b"]
    with file.open("ab") as more:
        more.write(b" done\r\nc\n")
    file.rename(tmp_path / "log.1")
    file.write_bytes(b"d\n")
    assert lines_of(reader) == [b"half done", b"c", b"d"]
    file.write_bytes(b"")
    assert lines_of(reader) == []
    file.write_bytes(b"e\n")
    assert lines_of(reader) == [b"e"]


def test_a_new_life_goes_on_where_the_last_one_was_even_in_a_renamed_file(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"a\nb\nc\n")
    positions = [position for _, position in tail.Tail(str(file), {}).lines()]
    assert lines_of(tail.Tail(str(file), positions[0])) == [b"b", b"c"]
    file.rename(tmp_path / "log.1")
    file.write_bytes(b"d\n")
    assert lines_of(tail.Tail(str(file), positions[0])) == [b"b", b"c", b"d"]
    (tmp_path / "log.1").unlink()
    assert lines_of(tail.Tail(str(file), positions[0])) == [b"d"]


def test_a_line_without_end_is_taken_in_pieces(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"x" * (tail._LONGEST_LINE + 10) + b"\nnext\n")
    found = lines_of(tail.Tail(str(file), {}))
    assert b"".join(found[:-1]) == b"x" * (tail._LONGEST_LINE + 10)
    assert found[-1] == b"next"


def test_what_was_written_on_is_given_back_to_the_disk(tmp_path: Path) -> None:
    file = tmp_path / "log"
    line = b"y" * 1023 + b"\n"
    file.write_bytes(line * 4096)
    before = file.stat().st_blocks
    reader = tail.Tail(str(file), {})
    position: dict[str, Any] = {}
    for number, (_, position) in enumerate(reader.lines()):
        if number == 3071:
            reader.release(position)
    if not reader._holes:
        pytest.skip("this file system has no holes")
    assert file.stat().st_size == 4 << 20
    assert file.stat().st_blocks <= before / 2
    # Nothing that was not written on is gone.
    assert file.read_bytes()[3 << 20 :] == line * 1024


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


def slowlog(server: FakeRedis, position: dict[str, Any], lost: Any = lambda _: None) -> Any:
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
    ((fourth, _),) = slowlog(server, position).read()
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
