"""An open-loop Redis client: one JSON request on stdin, one JSON response on stdout."""

import json
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from bench.in_pod.open_loop import paced

VALUE = b"x" * 32
OK = b"+OK\r\n"


def _encode(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


class Lane:
    """One connection that sends either SET or GET, so that all its responses have one length."""

    def __init__(self, request: dict[str, Any], keys: list[bytes], writes: bool) -> None:
        self.socket = socket.create_connection((request["host"], request["port"]), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        file = request.get("password_file")
        if file:
            words = [b"AUTH", Path(file).read_bytes().strip()]
            if request.get("user"):
                words.insert(1, request["user"].encode())
            self._expect(_encode(*words), OK)
        for key in keys:
            self._expect(_encode(b"SET", key, VALUE), OK)
        self.answer = len(OK) if writes else len(b"$%d\r\n%b\r\n" % (len(VALUE), VALUE))
        self.commands = [
            _encode(b"SET", key, VALUE) if writes else _encode(b"GET", key) for key in keys
        ]
        self.due: deque[float] = deque()
        self.left = self.answer
        self.next = 0

    def _expect(self, data: bytes, answer: bytes) -> None:
        self.socket.sendall(data)
        got = self.socket.recv(1 << 10)
        if got != answer:
            raise ConnectionError(f"answered {got!r}")

    def send(self, due: float) -> None:
        self.socket.sendall(self.commands[self.next])
        self.next = (self.next + 1) % len(self.commands)
        self.due.append(due)

    def receive(self, latencies: list[float]) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("closed by the peer")
        if data[:1] == b"-":
            raise ConnectionError(data.decode(errors="replace"))
        now = time.perf_counter()
        size = len(data)
        while size >= self.left:
            size -= self.left
            self.left = self.answer
            latencies.append(now - self.due.popleft())
        self.left -= size


def pace(request: dict[str, Any]) -> dict[str, Any]:
    """``rate`` requests a second, half SET and half GET, for ``seconds``, Poisson arrivals."""
    keys = [b"pace:%05d" % number for number in range(request.get("keys", 500))]
    lanes = [
        Lane(request, keys, writes=bool(number % 2))
        for number in range(request.get("connections", 16))
    ]
    for lane in lanes:
        lane.socket.setblocking(False)
    return paced(lanes, request)


if __name__ == "__main__":
    json.dump(pace(json.loads(sys.stdin.readline())), sys.stdout)
