"""Redis' slow log: a ring buffer in the server, whose entries have increasing ids."""

import pathlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from companions.logs.entry import Entry

CLIENT_NAME = "dds-log-adapter"
MOST = 1024
TIMEOUT_SECONDS = 3.0
_LONGEST_LINE = 1 << 16
# Far more than INFO or one argument of a command.
_LONGEST_VALUE = 1 << 20
Reply = bytes | int | None | list["Reply"]


class RedisError(Exception):
    """An error response of the server."""


class Client:
    """The part of Redis' protocol that the slow log needs."""

    def __init__(self, address: str, user: str | None, password: str | None) -> None:
        host, _, port = address.rpartition(":")
        # A socket takes an IPv6 address without brackets.
        self._socket = socket.create_connection(
            (host.strip("[]"), int(port)), timeout=TIMEOUT_SECONDS
        )
        self._file = self._socket.makefile("rb")
        try:
            if user is not None and password is not None:
                self.command("AUTH", user, password)
            # This name distinguishes the adapter's own commands from others.
            self.command("CLIENT", "SETNAME", CLIENT_NAME)
        except BaseException:
            self.close()
            raise

    def command(self, *words: str) -> Reply:
        """The reply to one command."""
        parts = [f"*{len(words)}\r\n".encode()]
        for word in words:
            raw = word.encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
        self._socket.sendall(b"".join(parts))
        return self._reply()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def _reply(self) -> Reply:
        line = self._file.readline(_LONGEST_LINE)
        if not line.endswith(b"\r\n"):
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RedisError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if int(rest) < 0:
                return None
            if int(rest) > _LONGEST_VALUE:
                raise RedisError(f"a value of {int(rest)} bytes")
            value = self._file.read(int(rest) + 2)
            if len(value) != int(rest) + 2:
                raise ConnectionError("redis closed the connection")
            return value[:-2]
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        raise RedisError(f"unexpected {line!r}")


@dataclass(frozen=True)
class Slow:
    """One entry as the server sends it."""

    number: int
    at: float
    microseconds: int
    words: tuple[str, ...]
    client: str | None
    client_name: str

    @classmethod
    def of(cls, raw: Any) -> "Slow":
        """From the values of the protocol; the last two exist since Redis 4."""
        number, at, microseconds, words, *peer = raw
        address, name = (*(w.decode(errors="replace") for w in peer), "", "")[:2]
        return cls(
            int(number),
            float(at),
            int(microseconds),
            tuple(w.decode(errors="backslashreplace") for w in words),
            address or None,
            name,
        )


class Slowlog:
    """New entries, oldest first, each with the position after it."""

    def __init__(
        self,
        settings: dict[str, Any],
        position: dict[str, Any],
        lost: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._run: str | None = position.get("run_id")
        self._last: int | None = position.get("last_id")
        self._client: Client | None = None
        self._lost = lost

    def read(self, _last: bool = False) -> Iterator[tuple[Entry | None, dict[str, Any]]]:
        """New entries; raises OSError or RedisError if the server does not respond."""
        try:
            run, entries = self._fetch()
        except BaseException:
            # The connection may still deliver the reply to this command.
            self._drop()
            raise
        if run != self._run:
            # A restarted server counts from 0 again. Entries that it dropped before the very first
            # read do not count as lost. If it has no entries yet, it has dropped none, and any that
            # it drops from now on are lost.
            may_have_dropped = self._run is None and bool(entries)
            self._run, self._last = run, None if may_have_dropped else -1
            if not may_have_dropped:
                yield None, {"run_id": run, "last_id": -1}
        for slow in entries:
            if self._last is not None and slow.number <= self._last:
                continue
            if self._last is not None and slow.number > self._last + 1:
                first, last = self._last + 1, slow.number - 1
                self._lost(last - first + 1)
                yield _gap(run, first, last, slow.at), {"run_id": run, "last_id": last}
            self._last = slow.number
            own = slow.client_name == CLIENT_NAME
            yield None if own else _entry(run, slow), {"run_id": run, "last_id": slow.number}

    def _fetch(self) -> tuple[str, list[Slow]]:
        if self._client is None:
            self._client = Client(
                self._settings["address"], self._settings.get("user"), _password(self._settings)
            )
        info = self._client.command("INFO", "server")
        raw = self._client.command("SLOWLOG", "GET", str(MOST))
        if not isinstance(info, bytes) or not isinstance(raw, list):
            raise RedisError("unexpected reply to INFO or SLOWLOG")
        runs = [line[7:] for line in info.decode().splitlines() if line.startswith("run_id:")]
        if not runs:
            raise RedisError("INFO has no run_id")
        return runs[0], sorted((Slow.of(e) for e in raw), key=lambda slow: slow.number)

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None


def _entry(run: str, slow: Slow) -> Entry:
    return Entry(
        id=f"{run}:{slow.number}",
        time=slow.at,
        kind="redis_slowlog",
        severity="warning",
        message=" ".join(slow.words),
        duration_ms=slow.microseconds / 1000,
        client=slow.client,
        attributes={
            "command": slow.words[0].upper() if slow.words else "",
            "arguments": len(slow.words) - 1,
            "client_name": slow.client_name,
        },
    )


def _gap(run: str, first: int, last: int, at: float) -> Entry:
    count = last - first + 1
    return Entry(
        id=f"{run}:lost:{first}-{last}",
        time=at,
        kind="redis_slowlog",
        severity="error",
        message=f"{count} entries of the slow log were dropped before they were read",
        attributes={"lost": count},
    )


def _password(settings: dict[str, Any]) -> str | None:
    file = settings.get("password_file")
    return None if file is None else pathlib.Path(file).read_text().rstrip("\n")
