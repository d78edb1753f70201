"""A store of counters with fencing: it refuses requests with an older token than it has seen.

GET  /counters/<name>             the value, the highest token, and its holder.
POST /counters/<name>/claim       {"token", "holder"}: older tokens are refused from now on; returns
                                  the value. A new holder does this before it reads: otherwise a
                                  write of the former holder could follow the read.
POST /counters/<name>/increment   {"token", "holder", "from"}: the value becomes ``from`` + 1, where
                                  ``from`` is the value that the holder has read. Without ``from``,
                                  the current value is incremented.
POST /counters/<name>/release     {"token", "holder"}: the holder has stopped, which is only logged.
GET  /log?after=0&counter=<name>&accepted=false&wait=0
                                  attempts after that number (from the end, if it is negative), of
                                  one counter or all, refused ones or all, at most 1000; waits up to
                                  so many seconds for the first. The last 20,000 are kept.
GET  /livez, /readyz              200 as long as the program runs.

A refused request gets a 409 with both tokens. A request may have ``belief``, the interval in which
its sender considers itself the holder (CLOCK_MONOTONIC); it is logged with the attempt.

Acknowledged writes are on disk. If an fsync fails, the store exits, and restarts from the contents of
the disk.

Environment: PORT (8080), JOURNAL (/data/journal), FENCED (true; false accepts every write, for
comparison).
"""

import contextlib
import http
import json
import math
import os
import pathlib
import re
import sys
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import serving

ACTIONS = ("claim", "increment", "release")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
MOST_COUNTERS = 1000
MOST_BODY = 4096
LONGEST_HOLDER = 253
HIGHEST = 2**63 - 1
KEPT = 20_000
PAGE = 1000
LONGEST_WAIT = 30.0
COMPACT_BYTES = 16 * 2**20


class RequestError(Exception):
    """An invalid or refused request, with the status and message of the response."""

    def __init__(self, status: int, why: str, **more: Any) -> None:
        super().__init__(why)
        self.status = status
        self.answer = {"error": why, **more}


@dataclass(frozen=True)
class Counter:
    """One counter."""

    value: int = 0
    token: int = 0
    """The highest token seen."""
    holder: str | None = None
    """The holder of that token."""


class Journal:
    """A file of lines that are on disk when ``append`` returns."""

    def __init__(self, path: pathlib.Path, compact_bytes: int = COMPACT_BYTES) -> None:
        self._path = path
        self._compact_bytes = compact_bytes
        # An incomplete line after a crash was never acknowledged.
        whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        self._lines = whole.splitlines()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._size = len(whole) + 1 if whole else 0
        os.ftruncate(self._file, self._size)
        os.lseek(self._file, 0, os.SEEK_END)
        _sync_folder(path.parent)

    def lines(self) -> Iterator[dict[str, Any]]:
        """The records at the start; can be read once."""
        lines, self._lines = self._lines, []
        for line in lines:
            yield json.loads(line)

    def append(self, record: dict[str, Any], durable: bool) -> None:
        """Append one line; after an OSError the file is truncated to its former size."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        try:
            _write_whole(self._file, line)
        except OSError:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, 0, os.SEEK_END)
            raise
        self._size += len(line)
        if durable:
            try:
                os.fsync(self._file)
            except OSError as error:
                # The kernel may have dropped the pages, and a second fsync would then succeed.
                print(f"fsync failed: {error}", file=sys.stderr, flush=True)
                os._exit(1)

    def full(self) -> bool:
        """Whether it should be compacted."""
        return self._size >= self._compact_bytes

    def compact(self, records: list[dict[str, Any]]) -> None:
        """Replace the contents by these records."""
        part = self._path.with_name(self._path.name + ".part")
        content = b"".join(json.dumps(r, separators=(",", ":")).encode() + b"\n" for r in records)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)
        _sync_folder(self._path.parent)
        os.close(self._file)
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND)
        self._size = len(content)


def _write_whole(file: int, line: bytes) -> None:
    written = os.write(file, line)
    if written != len(line):
        raise OSError(f"{written} of {len(line)} bytes written")


def _sync_folder(folder: pathlib.Path) -> None:
    """Fsync the folder, which makes a new file name durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Store:
    """The counters; requests are serialized."""

    def __init__(self, journal: Journal, fenced: bool = True) -> None:
        self.fenced = fenced
        self._journal = journal
        self._counters: dict[str, Counter] = {}
        self._log: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._number = 0
        self._changed = threading.Condition()
        for entry in journal.lines():
            self._number = entry["number"]
            if "counters" in entry:
                self._counters = {n: Counter(**c) for n, c in entry["counters"].items()}
                continue
            self._log.append(entry)
            if entry["accepted"]:
                self._counters[entry["counter"]] = _after(entry)

    def read(self, name: str) -> dict[str, Any]:
        """The current counter."""
        with self._changed:
            counter = self._counters.get(name, Counter())
        return _shown(name, counter)

    def attempt(self, name: str, action: str, request: dict[str, Any]) -> dict[str, Any]:
        """Apply or refuse a request; both are logged."""
        with self._changed:
            now = self._counters.get(name, Counter())
            if name not in self._counters and len(self._counters) >= MOST_COUNTERS:
                raise RequestError(507, f"the maximum of {MOST_COUNTERS} counters is reached")
            token = request["token"]
            accepted = token >= now.token or not self.fenced
            then = _changed(now, action, request) if accepted else now
            entry = {
                "number": self._number + 1,
                "at": time.monotonic(),
                "counter": name,
                "action": action,
                "holder": request["holder"],
                "token": token,
                "highest": now.token,
                "accepted": accepted,
                "before": now.value,
                "value": then.value,
            }
            if "belief" in request:
                entry["belief"] = request["belief"]
            try:
                self._journal.append(entry, durable=accepted)
            except OSError as error:
                raise RequestError(507, f"writing to disk failed: {error}") from error
            self._number += 1
            self._log.append(entry)
            if accepted:
                self._counters[name] = then
            if self._journal.full():
                self._compact()
            self._changed.notify_all()
        if not accepted:
            raise RequestError(
                409, f"token {token} is older than {now.token}", token=token, highest=now.token
            )
        return _shown(name, then)

    def log(
        self, after: int, name: str | None = None, accepted: bool | None = None, wait: float = 0
    ) -> dict[str, Any]:
        """The selected attempts after a number."""

        def found(after: int) -> list[dict[str, Any]]:
            newer: list[dict[str, Any]] = []
            for entry in reversed(self._log):
                if entry["number"] <= after:
                    break
                if name in (None, entry["counter"]) and accepted in (None, entry["accepted"]):
                    newer.append(entry)
            return newer[::-1]

        with self._changed:
            if after < 0:
                after = max(0, self._number + after)
            self._changed.wait_for(lambda: found(after), timeout=wait)
            entries = found(after)[:PAGE]
            oldest = self._log[0]["number"] if self._log else self._number + 1
        return {"attempts": entries, "oldest": oldest, "last": self._number}

    def _compact(self) -> None:
        counters = {
            name: {"value": c.value, "token": c.token, "holder": c.holder}
            for name, c in self._counters.items()
        }
        self._journal.compact([{"number": self._number, "counters": counters}])


def _changed(now: Counter, action: str, request: dict[str, Any]) -> Counter:
    # Without fencing an older token must not lower the highest one, which the log shows.
    then = replace(now, token=max(now.token, request["token"]), holder=request["holder"])
    if action == "increment":
        return replace(then, value=request.get("from", now.value) + 1)
    return replace(then, holder=None) if action == "release" else then


def _after(entry: dict[str, Any]) -> Counter:
    holder = None if entry["action"] == "release" else entry["holder"]
    return Counter(entry["value"], max(entry["token"], entry["highest"]), holder)


def _shown(name: str, counter: Counter) -> dict[str, Any]:
    return {
        "counter": name,
        "value": counter.value,
        "token": counter.token,
        "holder": counter.holder,
    }


def checked_name(name: str) -> str:
    """The counter's name, if it is valid."""
    if not NAME.fullmatch(name):
        raise RequestError(
            400, "a counter's name must have 1 to 63 lower-case letters, digits and dashes"
        )
    return name


def checked_request(text: bytes) -> dict[str, Any]:
    """The request's known members, validated; others are ignored."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise RequestError(400, "the body must be a JSON object")
    request = {
        "token": _whole(given, "token"),
        "holder": given.get("holder"),
    }
    if not isinstance(request["holder"], str) or not 0 < len(request["holder"]) <= LONGEST_HOLDER:
        raise RequestError(400, f"holder must have 1 to {LONGEST_HOLDER} characters")
    if "from" in given:
        request["from"] = _whole(given, "from")
    if "belief" in given:
        request["belief"] = _interval(given["belief"])
    return request


def checked_query(text: str) -> dict[str, Any]:
    """The parameters of a query of the log."""
    query = dict(urllib.parse.parse_qsl(text))
    name, accepted = query.get("counter"), query.get("accepted")
    try:
        return {
            "after": int(query.get("after", "0")),
            "name": None if name is None else checked_name(name),
            "accepted": {None: None, "true": True, "false": False}[accepted],
            "wait": min(max(_finite(float(query.get("wait", "0"))), 0.0), LONGEST_WAIT),
        }
    except (ValueError, KeyError):
        raise RequestError(400, "after and wait must be numbers, accepted true or false") from None


def _whole(given: dict[str, Any], key: str) -> int:
    value = given.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < HIGHEST:
        raise RequestError(400, f"{key} must be a whole number from 0")
    return value


def _interval(given: Any) -> dict[str, float]:
    ends = [given.get(key) for key in ("since", "until")] if isinstance(given, dict) else [None]
    if all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        with contextlib.suppress(ValueError, OverflowError):
            return {"since": _finite(float(ends[0])), "until": _finite(float(ends[1]))}
    raise RequestError(400, 'belief must be {"since": seconds, "until": seconds}')


def _finite(number: float) -> float:
    # NaN compares with nothing, and JSON has neither NaN nor infinity.
    if not math.isfinite(number):
        raise ValueError(number)
    return number


class Handler(serving.Handler):
    """Responds with JSON."""

    timeout = 60
    most_body = MOST_BODY

    def do_GET(self) -> None:
        """Respond to a query."""
        self._respond(self._get)

    def do_POST(self) -> None:
        """Handle an attempt."""
        self._respond(self._post)

    def _get(self) -> dict[str, Any]:
        url = urllib.parse.urlsplit(self.path)
        match url.path.strip("/").split("/"):
            case ["livez" | "readyz"]:
                return {"ok": True}
            case ["counters", name]:
                return self._store.read(checked_name(name))
            case ["log"]:
                return self._store.log(**checked_query(url.query))
        raise RequestError(404, "not /counters/<name> or /log")

    def _post(self) -> dict[str, Any]:
        match urllib.parse.urlsplit(self.path).path.strip("/").split("/"):
            case ["counters", name, action] if action in ACTIONS:
                return self._store.attempt(checked_name(name), action, checked_request(self.body))
        raise RequestError(404, f"not /counters/<name>/ with one of {', '.join(ACTIONS)}")

    @property
    def _store(self) -> Store:
        store: Store = self.server.store  # type: ignore[attr-defined]
        return store

    def _respond(self, answer: Any) -> None:
        try:
            status, content = 200, answer()
        except RequestError as error:
            status, content = error.status, error.answer
        self.answer(status, content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log refused requests; all attempts are in /log."""
        if code != http.HTTPStatus.OK:
            super().log_request(code, size)


class Server(serving.Server):
    """The HTTP server of a store."""

    # A shutdown does not wait for clients that wait for the log.
    daemon_threads = True

    def __init__(self, port: int, store: Store, address: str = "") -> None:
        super().__init__(address, port, Handler)
        self.store = store


def main() -> None:
    """Serve until SIGTERM."""
    fenced = {"true": True, "false": False}[os.environ.get("FENCED", "true")]
    journal = Journal(pathlib.Path(os.environ.get("JOURNAL", "/data/journal")))
    Server(int(os.environ.get("PORT", "8080")), Store(journal, fenced)).run()


if __name__ == "__main__":
    main()
