"""Logs in files, as the log adapter reads them: nothing skipped, nothing twice, no line too bad."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.companions import program
from tests.unit.support.log_entries import checked

entry = program("logs.entry")
files = program("logs.files")
tail = program("logs.tail")

AT = {"inode": 7, "life": "a1b2", "offset": 100, "before": 0}


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The program keeps its logs open until its end; here that is the test's."""
    made: list[Any] = []
    begin = tail.Tail.__init__

    def kept(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(tail.Tail, "__init__", kept)
    yield
    for one in made:
        if one._file is not None:
            one._file.close()


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
        (
            '1.2.3.4 - a [b] [24/Nov/2026:00 [24/Nov/2026:21:55:46 +0000] "GET / HTTP/1.1" 200 0 "-" "-"',
            {"severity": "info", "time": "2026-11-24T21:55:46.000Z", "client": "1.2.3.4"},
            {"status": 200, "path": "/"},
        ),
        ("something else", {"severity": "warning", "message": "something else"},
         {"parsed": False}),
        ('1.2.3.4 - - [31/Feb/2026:21:55:46 +0000] "GET / HTTP/1.1" 200 0 "-" "-"',
         {"severity": "warning"}, {"parsed": False}),
        ('1.2.3.4 - - [24/Nov/2026:21:55:46 +0000] "GET / HTTP/1.1" 200 0 "-" "-" rt=1.2.3',
         {"severity": "info", "duration_ms": None}, {"status": 200}),
    ],
)  # fmt: skip
def test_access_log(line: str, expected: dict[str, Any], attributes: dict[str, Any]) -> None:
    written = checked(files.access_entry(line.encode(), AT))
    assert expected.items() <= written.items()
    assert attributes.items() <= written["attributes"].items()
    assert written["id"] == "one:a1b2:100"


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
    found += source.read()
    return [(e, position) for e, position in found if e is not None]


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


def test_a_slow_log_read_at_any_moment_gives_the_same_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut anywhere, as a reader meets it, and read on by another life from the kept position."""
    monkeypatch.setattr(tail.secrets, "token_hex", lambda _: "life")
    source, file = slow_log(tmp_path, MARIADB + MYSQL)
    whole = [e.line("x") for e, _ in settled(source)]
    assert len(whole) == 3
    raw = (MARIADB + MYSQL).encode()
    for cut in range(0, len(raw), 23):
        file.write_bytes(raw[:cut])
        found, position = [], {}
        for e, position in files.SlowLog({"path": str(file)}, {}).read():  # noqa: B007
            found += [] if e is None else [e.line("x")]
        file.write_bytes(raw)
        found += [e.line("x") for e, _ in settled(files.SlowLog({"path": str(file)}, position))]
        assert found == whole, cut


def headed(statement: str, seconds: str = "0.5") -> str:
    return (
        "# User@Host: app[app] @  [10.0.0.1]\n# Thread_id: 1  Schema: shop  QC_hit: No\n"
        f"# Query_time: {seconds}  Lock_time: 0.0  Rows_sent: 1  Rows_examined: 1\n"
        f"SET timestamp=1795557601;\n{statement};\n"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1 /*\n# Time: 2026-99-99T99:99:99Z\n# Query_time: 1.2.3  Lock_time: 9\n*/",
        "SELECT 1 /*\n# User@Host: x[x] @  [1.1.1.1]\n# Query_time: 7.0  Lock_time: 9.0\n*/",
        "# User@Host: x[x] @  [1.1.1.1]\n# Query_time: 1.2.3\nSELECT 1",
        "SET timestamp=99999999999999999;\nSELECT 1",
        "# administrator command: Quit",
    ],
)
def test_a_statement_that_looks_like_a_header_is_a_statement(
    tmp_path: Path, statement: str
) -> None:
    text = headed("SELECT 0") + headed(statement) + headed("SELECT 2")
    source, _ = slow_log(tmp_path, text)
    found = [checked(e) for e, _ in settled(source)]
    assert [e["message"] for e in found] == ["SELECT 0", statement, "SELECT 2"]
    assert {(e["client"], e["duration_ms"], e["time"]) for e in found} == {
        ("10.0.0.1", 500.0, "2026-11-24T22:00:01.000Z")
    }
    assert settled(source) == []


def test_what_is_no_entry_of_a_slow_log_is_seen_and_passed_over(tmp_path: Path) -> None:
    forged = "SELECT 1;\n# User@Host: x[x] @  [1.1.1.1]\n# Query_time: 1.2.3\nmore"
    text = "nonsense\n" + headed("SELECT 0") + headed(forged) + headed("SELECT 2", "1.2.3")
    source, file = slow_log(tmp_path, text + headed("SELECT 3"))
    found = [checked(e) for e, _ in settled(source)]
    assert [(e["message"].split("\n")[0], e["attributes"].get("parsed")) for e in found] == [
        ("nonsense", False),
        ("SELECT 0", None),
        ("SELECT 1", None),
        ("# User@Host: x[x] @  [1.1.1.1]", False),
        ("# User@Host: app[app] @  [10.0.0.1]", False),
        ("SELECT 3", None),
    ]
    assert len({e["id"] for e in found}) == len(found)
    with file.open("a") as more:
        more.write(headed("SELECT 4"))
    assert [e.message for e, _ in settled(source)] == ["SELECT 4"]


def test_a_long_statement_is_held_in_part_only(tmp_path: Path) -> None:
    source, file = slow_log(tmp_path, headed("INSERT\n" + "x" * 999 + ("\n" + "y" * 999) * 500))
    assert len(settled(source)) == 1
    with file.open("a") as more:
        more.write(headed("INSERT\n" + ("y" * 999 + "\n") * 500) + headed("SELECT 2"))
    for e, _ in source.read(True):
        assert e is not None
        assert len(checked(e)["message"]) in (8, entry.LONGEST_MESSAGE)
    assert source._size < 2 * files._LONGEST_ENTRY


def test_the_last_look_takes_an_entry_that_has_not_settled(tmp_path: Path) -> None:
    source, _ = slow_log(tmp_path, headed("SELECT 1"))
    assert [e for e, _ in source.read() if e is not None] == []
    assert [e.message for e, _ in source.read(True)] == ["SELECT 1"]


# files


def lines_of(source: Any, last: bool = False) -> list[bytes]:
    return [line for line, _ in source.lines(last) if line is not None]


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
    # Who writes may still have the old one open; it is left once nothing more has come.
    assert lines_of(reader) == [b"half done", b"c"]
    with (tmp_path / "log.1").open("ab") as more:
        more.write(b"late\n")
    assert lines_of(reader) == [b"late"]
    assert lines_of(reader) == [b"d"]
    file.write_bytes(b"")
    assert lines_of(reader) == []
    file.write_bytes(b"e\n")
    assert lines_of(reader) == [b"e"]


def test_a_new_life_goes_on_where_the_last_one_was_even_in_a_renamed_file(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"a\nb\nc\n")
    start, first, *_ = [position for _, position in tail.Tail(str(file), {}).lines()]
    assert lines_of(tail.Tail(str(file), start)) == [b"a", b"b", b"c"]
    assert lines_of(tail.Tail(str(file), first)) == [b"b", b"c"]
    file.rename(tmp_path / "log.1")
    file.write_bytes(b"d\n")
    assert lines_of(tail.Tail(str(file), first), last=True) == [b"b", b"c", b"d"]
    (tmp_path / "log.1").unlink()
    assert lines_of(tail.Tail(str(file), first)) == [b"d"]


@pytest.mark.parametrize("away", [True, False])
def test_a_file_that_was_emptied_or_made_anew_is_read_from_its_start(
    tmp_path: Path, away: bool
) -> None:
    """It has the same inode, and has grown beyond where it was read to."""
    file = tmp_path / "log"
    file.write_bytes(b"old 1\nold 2\n")
    reader = tail.Tail(str(file), {})
    before = list(reader.lines())
    file.write_bytes(b"new 1\nnew 2\nnew 3\n")
    if away:
        reader = tail.Tail(str(file), before[-1][1])
    after = list(reader.lines())
    assert [line for line, _ in after] == [None, b"new 1", b"new 2", b"new 3"]
    # A line is known by the life of its file and its place in it.
    places = [(at["life"], at["offset"]) for line, at in before + after if line is not None]
    assert len(set(places)) == len(places)


def test_a_life_has_its_name_kept_before_its_first_entry(tmp_path: Path) -> None:
    """Or else a kill behind the first write would repeat that entry with another id."""
    file = tmp_path / "log"
    file.write_bytes(b"a\n")
    ((nothing, start), (line, _)) = files.AccessLog({"path": str(file)}, {}).read()
    assert nothing is None
    ((again, _),) = files.AccessLog({"path": str(file)}, start).read()
    assert again.id == line.id


def test_a_rotated_file_without_a_last_line_feed_is_read_and_left(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"a\nhalf")
    reader = tail.Tail(str(file), {})
    assert lines_of(reader) == [b"a"]
    file.rename(tmp_path / "log.1")
    file.write_bytes(b"d\n")
    assert lines_of(reader) == []
    found = list(reader.lines())
    assert [line for line, _ in found] == [b"half", None, b"d"]
    # Nor does another life read it again.
    assert lines_of(tail.Tail(str(file), found[0][1]), last=True) == [b"d"]
    file.rename(tmp_path / "log.2")
    file.write_bytes(b"e\n")
    assert lines_of(reader, last=True) == [b"e"], "nothing is left to a look that is not to come"


def test_a_bad_line_repeats_nothing_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is that who reads cannot do with a line."""
    file = tmp_path / "log"
    file.write_bytes(b"a\nbad\nb\n")
    parse = files._access

    def bad(text: str, place: str) -> Any:
        if text == "bad":
            raise RecursionError(text)
        return parse(text, place)

    monkeypatch.setattr(files, "_access", bad)
    source = files.AccessLog({"path": str(file)}, {})
    found = [e for e, _ in source.read() if e is not None]
    assert [(e.message, e.attributes["parsed"]) for e in found] == [
        ("a", False), ("bad", False), ("b", False)
    ]  # fmt: skip
    assert list(source.read()) == []
    # A reader that is stopped in the middle goes on behind what it had.
    again = tail.Tail(str(file), {})
    lines = again.lines()
    assert [next(lines)[0], next(lines)[0]] == [None, b"a"]
    lines.close()
    assert lines_of(again) == [b"bad", b"b"]


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
    # Nothing that was not written on is gone, nor that by which the position is known.
    assert lines_of(tail.Tail(str(file), position)) == []
    assert file.read_bytes()[3 << 20 :] == line * 1024
