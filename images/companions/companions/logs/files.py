"""Logs in files: nginx' access log and MySQL's slow log."""

import datetime
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from companions.logs.entry import Entry
from companions.logs.tail import Tail

# The combined format, optionally followed by the duration as rt=$request_time. A user's name is sent
# by the client and may contain blanks and brackets, but never a quotation mark.
_ACCESS = re.compile(
    r'(?P<client>\S+) \S+ (?P<user>[^"]+) '
    r"\[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" '
    r'(?P<status>\d{3}) (?P<bytes>\d{1,18}|-) "(?P<referer>(?:[^"\\]|\\.)*)" '
    r'"(?P<agent>(?:[^"\\]|\\.)*)"(?: rt=(?P<seconds>\d{1,9}(?:\.\d{1,6})?)(?![\d.]))?.*'
)
_BAD, _FAILED = 400, 500


def _parsed(read: Callable[[], Entry | None], place: str, kind: str, text: str) -> Entry:
    """The entry that ``read`` parses from a text.

    A text that cannot be parsed becomes an entry as it is, so that it is seen and blocks no other.
    """
    try:
        found = read()
    except Exception:  # noqa: BLE001 (an invalid line must not stop the reader)
        found = None
    if found is None:
        return Entry(place, time.time(), kind, text, "warning", attributes={"parsed": False})
    return found


def _place(position: Mapping[str, Any]) -> str:
    return f"{position['life']}:{position['offset']}"


class AccessLog:
    """nginx' access log, line by line."""

    def __init__(self, settings: dict[str, Any], position: dict[str, Any]) -> None:
        self._tail = Tail(settings["path"], position)

    def read(self, last: bool = False) -> Iterator[tuple[Entry | None, dict[str, Any]]]:
        """New entries.

        :param last: there will be no later read
        """
        for line, position in self._tail.lines(last):
            yield None if line is None else access_entry(line, position), position

    def release(self, position: dict[str, Any]) -> None:
        """Free the disk space of what was read and written."""
        self._tail.release(position)

    def waiting(self) -> int:
        """Bytes that are not read yet."""
        return self._tail.waiting()


def access_entry(line: bytes, position: dict[str, Any]) -> Entry:
    """The entry of one line; a line in another format is kept as it is."""
    text = line.decode(errors="backslashreplace")
    place = _place(position)
    return _parsed(lambda: _access(text, place), place, "nginx_access", text)


def _access(text: str, place: str) -> Entry | None:
    found = _ACCESS.fullmatch(text)
    if found is None:
        return None
    status = int(found["status"])
    method, _, rest = found["request"].partition(" ")
    severity = "error" if status >= _FAILED else "warning" if status >= _BAD else "info"
    return Entry(
        id=place,
        time=datetime.datetime.strptime(found["time"], "%d/%b/%Y:%H:%M:%S %z").timestamp(),
        kind="nginx_access",
        severity=severity,
        message=f"{found['request']} {status}",
        duration_ms=None if found["seconds"] is None else float(found["seconds"]) * 1000,
        client=found["client"],
        attributes={
            "status": status,
            "method": method,
            "path": rest.rpartition(" ")[0] or rest,
            "bytes": 0 if found["bytes"] == "-" else int(found["bytes"]),
            "referer": found["referer"],
            "user_agent": found["agent"],
        },
    )


_NUMBER = r"\d{1,18}(?:\.\d{1,9})?(?![\d.])"
_TIME = re.compile(
    r"# Time: (?P<iso>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)?)|# Time: \d{6}\s+[\d:]+"
)
_USER = re.compile(r"# User@Host: (?P<user>.*)\[.*\] @ +(?P<host>\S*) *\[(?P<ip>[^\]]*)\]")
_QUERY = re.compile(rf"# Query_time: (?P<seconds>{_NUMBER})")
_PAIR = re.compile(
    rf"(?P<key>Lock_time|Rows_sent|Rows_examined|Rows_affected): +(?P<value>{_NUMBER})"
)
_SCHEMA = re.compile(r"# Thread_id: \d+ +Schema: (?P<schema>\S*)")
_STAMP = re.compile(rf"SET (?:[a-z_]+=\d+,)*timestamp=(?P<seconds>{_NUMBER});")
_USE = re.compile(r"use (?P<schema>[^;]+);", re.IGNORECASE)
_BANNER = re.compile(r"(.*, Version: .*started with:|Tcp port: .*|Time +Id +Command +Argument)")
# Only the start of the next entry ends an entry: without one, it is complete after so long.
_SETTLED = 1.0
# Maximum characters of an entry in memory; messages are truncated further.
_LONGEST_ENTRY = 1 << 16


class SlowLog:
    """The slow log of MariaDB and MySQL: several lines an entry."""

    def __init__(self, settings: dict[str, Any], position: dict[str, Any]) -> None:
        self._tail = Tail(settings["path"], position)
        self._lines: list[str] = []
        self._size = 0
        self._is_stamped = self._is_ended = False
        self._start: dict[str, Any] = {}
        self._end: dict[str, Any] = {}
        self._grown = 0.0

    def read(self, last: bool = False) -> Iterator[tuple[Entry | None, dict[str, Any]]]:
        """New complete entries.

        :param last: there will be no later read
        """
        for line, position in self._tail.lines(last):
            if line is None:
                # The preceding lines are in another file.
                yield from self._finished()
                yield None, position
                continue
            text = line.decode(errors="backslashreplace")
            is_banner = _BANNER.fullmatch(text) is not None
            if is_banner or self._starts(text):
                yield from self._finished()
            if not is_banner:
                self._add(text, position)
        settled = last or time.monotonic() - self._grown > _SETTLED
        if settled and (self._is_ended or not self._has_head()):
            yield from self._finished()

    def release(self, position: dict[str, Any]) -> None:
        """Free the disk space of what was read and written."""
        self._tail.release(position)

    def waiting(self) -> int:
        """Bytes that are not read yet."""
        return self._tail.waiting()

    def _has_head(self) -> bool:
        return bool(self._lines) and self._lines[0].startswith(("# Time: ", "# User@Host: "))

    def _starts(self, text: str) -> bool:
        """Whether an entry begins here; within a statement, such a line is part of it."""
        # The time precedes the user only where it differs from that of the last entry.
        is_head = _TIME.match(text) is not None or text.startswith("# User@Host: ")
        return is_head and (self._is_ended or not self._has_head())

    def _add(self, text: str, position: dict[str, Any]) -> None:
        if not self._lines:
            self._start, self._size, self._is_stamped = position, 0, False
        if self._size < _LONGEST_ENTRY:
            self._lines.append(text)
            self._size += len(text)
        # The last line before the statement, not the end of it.
        is_stamp = not self._is_stamped and _STAMP.fullmatch(text) is not None
        self._is_stamped |= is_stamp
        self._is_ended = text.endswith(";") and not is_stamp
        self._end, self._grown = position, time.monotonic()

    def _finished(self) -> Iterator[tuple[Entry, dict[str, Any]]]:
        lines, self._lines, self._is_ended = self._lines, [], False
        if lines:
            yield slow_entry(lines, self._start), self._end


def slow_entry(lines: list[str], start: dict[str, Any]) -> Entry:
    """The entry of several lines; lines in another format are kept as they are."""
    place = _place(start)
    return _parsed(lambda: _slow(lines, place), place, "mysql_slow", "\n".join(lines))


def _slow(lines: list[str], place: str) -> Entry | None:
    at, seconds, client, schema = time.time(), None, None, ""
    attributes: dict[str, Any] = {}
    head = _length_of_head(lines)
    for line in lines[:head]:
        if (found := _TIME.match(line)) is not None and found["iso"]:
            at = datetime.datetime.fromisoformat(found["iso"]).timestamp()
        if (found := _USER.match(line)) is not None:
            attributes["user"] = found["user"].strip()
            client = found["ip"] or found["host"] or None
        if (found := _QUERY.match(line)) is not None:
            seconds = float(found["seconds"])
        if (found := _SCHEMA.match(line)) is not None:
            schema = found["schema"]
        if (found := _USE.fullmatch(line)) is not None:
            schema = found["schema"].strip("`")
        if (found := _STAMP.fullmatch(line)) is not None:
            # The start of the query; MySQL's # Time has more digits, but is the time of writing.
            at = float(found["seconds"])
        for pair in _PAIR.finditer(line):
            attributes[pair["key"].lower()] = float(pair["value"])
    if seconds is None:
        return None
    return Entry(
        id=place,
        time=at,
        kind="mysql_slow",
        severity="warning",
        message="\n".join(lines[head:]).rstrip(";"),
        duration_ms=round(seconds * 1000, 3),
        client=client,
        attributes={**attributes, "database": schema},
    )


def _length_of_head(lines: list[str]) -> int:
    """Number of lines before the statement, which extends to the end of the entry."""
    for number, line in enumerate(lines):
        if _STAMP.fullmatch(line) is not None:
            return number + 1
        if not line.startswith("# ") and _USE.fullmatch(line) is None:
            return number
    return len(lines)
