"""The part of the Redis protocol that the clients in the pods need, on plain sockets.

Runs inside a pod with nothing but Python's standard library, so nothing of the project is imported.
"""

import socket
from collections.abc import Iterable, Iterator
from typing import Any


class ErrorReply(Exception):
    """What the server answered with a leading minus."""


Reply = bytes | int | None | list[Any] | ErrorReply


def encode(*words: str | bytes) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word.encode() if isinstance(word, str) else word
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class Connection:
    """One connection; every wait is bounded by ``timeout`` seconds."""

    def __init__(
        self, host: str, port: int, timeout: float, user: str = "", password: str = ""
    ) -> None:
        self._socket = socket.create_connection((host, port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb", buffering=1 << 16)
        if password:
            words = ("AUTH", user, password) if user else ("AUTH", password)
            answer = self.command(*words)
            if isinstance(answer, ErrorReply):
                raise answer

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def reply(self) -> Reply:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("closed by the peer")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ErrorReply(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            length = int(rest)
            if length < 0:
                return None
            data = self._file.read(length + 2)
            if len(data) != length + 2:
                raise ConnectionError("closed by the peer")
            return bytes(data[:-2])
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        raise ConnectionError(f"not the Redis protocol: {line[:40]!r}")

    def command(self, *words: str | bytes) -> Reply:
        self.send(encode(*words))
        return self.reply()

    def pipelined(self, commands: Iterable[tuple[str | bytes, ...]], depth: int) -> Iterator[Reply]:
        """The replies to all commands in order, with at most ``depth`` under way."""
        batch: list[bytes] = []
        for command in commands:
            batch.append(encode(*command))
            if len(batch) == depth:
                yield from self._exchange(batch)
                batch = []
        if batch:
            yield from self._exchange(batch)

    def _exchange(self, batch: list[bytes]) -> Iterator[Reply]:
        self.send(b"".join(batch))
        for _ in batch:
            yield self.reply()
