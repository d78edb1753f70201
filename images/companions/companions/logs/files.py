"""Logs in files: nginx' access log and MySQL's slow log."""

import datetime
import re
import time
from collections.abc import Iterator
from typing import Any

from companions.logs.entry import Entry
from companions.logs.tail import Tail

# The combined format, and behind it how long it took if that is logged as rt=$request_time.
_ACCESS = re.compile(
    r'(?P<client>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" '
    r'(?P<status>\d{3}) (?P<bytes>\d+|-) "(?P<referer>(?:[^"\\]|\\.)*)" '
    r'"(?P<agent>(?:[^"\\]|\\.)*)"(?: rt=(?P<seconds>[\d.]+))?.*'
)
_BAD, _FAILED = 400, 500


class AccessLog:
    """nginx' access log, line by line."""

    def __init__(self, settings: dict[str, Any], position: dict[str, Any]) -> None:
        self._tail = Tail(settings["path"], position)

    def read(self) -> Iterator[tuple[Entry, dict[str, Any]]]:
        """What is new."""
        for line, position in self._tail.lines():
            yield access_entry(line, position), position

    def release(self, position: dict[str, Any]) -> None:
        """Give back what was read and written on."""
        self._tail.release(position)

    def waiting(self) -> int:
        """Bytes that are not read yet."""
        return self._tail.waiting()


def access_entry(line: bytes, position: dict[str, Any]) -> Entry:
    """One line; one in another form is kept as it is."""
    text = line.decode(errors="backslashreplace")
    found = _ACCESS.fullmatch(text)
    place = f"{position['inode']}:{position['offset']}"
    if found is None:
        return Entry(place, time.time(), "nginx_access", text, "warning",
                     attributes={"parsed": False})  # fmt: skip
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


_TIME = re.compile(r"# Time: (?P<iso>\d{4}-\d\d-\d\dT[\d:.]+Z?)|# Time: \d{6}\s+[\d:]+")
_USER = re.compile(r"# User@Host: (?P<user>[^\[]*)\[[^\]]*\] @ +(?P<host>\S*) *\[(?P<ip>[^\]]*)\]")
_QUERY = re.compile(r"# Query_time: (?P<seconds>[\d.]+)")
_PAIR = re.compile(r"(?P<key>Lock_time|Rows_sent|Rows_examined|Rows_affected): +(?P<value>[\d.]+)")
_SCHEMA = re.compile(r"# Thread_id: \d+ +Schema: (?P<schema>\S*)")
_STAMP = re.compile(r"SET timestamp=(?P<seconds>[\d.]+);")
_USE = re.compile(r"use (?P<schema>[^;]+);", re.IGNORECASE)
_BANNER = re.compile(r"(.*, Version: .*started with:|Tcp port: .*|Time +Id +Command +Argument)")
# An entry has no end but the start of the next: after so long without one it is complete.
_SETTLED = 1.0


class SlowLog:
    """The slow log of MariaDB and MySQL: several lines an entry."""

    def __init__(self, settings: dict[str, Any], position: dict[str, Any]) -> None:
        self._tail = Tail(settings["path"], position)
        self._lines: list[str] = []
        self._start: dict[str, Any] = {}
        self._end: dict[str, Any] = {}
        self._grown = 0.0

    def read(self) -> Iterator[tuple[Entry, dict[str, Any]]]:
        """Entries that are complete."""
        for line, position in self._tail.lines():
            text = line.decode(errors="backslashreplace")
            if self._starts(text):
                yield from self._finished()
            if not self._lines:
                if not text.startswith("# ") or _BANNER.fullmatch(text):
                    continue
                self._start = position
            self._lines.append(text)
            self._end, self._grown = position, time.monotonic()
        settled = time.monotonic() - self._grown > _SETTLED
        if self._lines and settled and self._lines[-1].endswith(";"):
            yield from self._finished()

    def release(self, position: dict[str, Any]) -> None:
        """Give back what was read and written on."""
        self._tail.release(position)

    def waiting(self) -> int:
        """Bytes that are not read yet."""
        return self._tail.waiting()

    def _starts(self, text: str) -> bool:
        if _BANNER.fullmatch(text):
            return True
        if _TIME.match(text):
            return True
        # The time stands before the user only where it is another than the last one's.
        return text.startswith("# User@Host:") and not (
            len(self._lines) == 1 and _TIME.match(self._lines[0]) is not None
        )

    def _finished(self) -> Iterator[tuple[Entry, dict[str, Any]]]:
        lines, end = self._lines, self._end
        self._lines = []
        if any(_QUERY.match(line) for line in lines):
            yield slow_entry(lines, self._start), end


def slow_entry(lines: list[str], start: dict[str, Any]) -> Entry:
    """One entry's lines."""
    at, seconds, client, schema = time.time(), None, None, ""
    attributes: dict[str, Any] = {}
    statement: list[str] = []
    for line in lines:
        if line.startswith("# "):
            if (found := _TIME.match(line)) is not None and found["iso"]:
                at = datetime.datetime.fromisoformat(found["iso"]).timestamp()
            if (found := _USER.match(line)) is not None:
                attributes["user"] = found["user"].strip()
                client = found["ip"] or found["host"] or None
            if (found := _QUERY.match(line)) is not None:
                seconds = float(found["seconds"])
            if (found := _SCHEMA.match(line)) is not None:
                schema = found["schema"]
            for pair in _PAIR.finditer(line):
                attributes[pair["key"].lower()] = float(pair["value"])
        elif (found := _STAMP.fullmatch(line)) is not None and not statement:
            # When it began; MySQL's own # Time has more digits and says when it was written.
            at = float(found["seconds"])
        elif (found := _USE.fullmatch(line)) is not None and not statement:
            schema = found["schema"].strip("`")
        else:
            statement.append(line)
    attributes["database"] = schema
    return Entry(
        id=f"{start['inode']}:{start['offset']}",
        time=at,
        kind="mysql_slow",
        severity="warning",
        message="\n".join(statement).rstrip(";"),
        duration_ms=None if seconds is None else round(seconds * 1000, 3),
        client=client,
        attributes=attributes,
    )
