"""An open-loop HTTP client: one JSON request on stdin, one JSON response on stdout."""

import json
import re
import socket
import sys
import time
from collections import deque
from typing import Any

from bench.in_pod.open_loop import paced

LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *([0-9]+)\r\n")
USERS = 512


class Lane:
    """One keep-alive connection with a few requests in flight."""

    def __init__(self, request: dict[str, Any], number: int) -> None:
        self.socket = socket.create_connection((request["host"], request["port"]), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = [
            f"GET / HTTP/1.1\r\nHost: bench\r\nX-User-Id: {number}-{user}\r\n\r\n".encode()
            for user in range(USERS)
        ]
        self.due: deque[float] = deque()
        self.data = b""
        self.next = 0

    def send(self, due: float) -> None:
        self.socket.sendall(self.requests[self.next % USERS])
        self.next += 1
        self.due.append(due)

    def receive(self, latencies: list[float]) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("closed by the peer")
        now = time.perf_counter()
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(self.data[: end + 2])
            if not self.data.startswith(b"HTTP/1.1 200 ") or length is None:
                raise ConnectionError(f"answered {self.data[:200]!r}")
            whole = end + 4 + int(length[1])
            if len(self.data) < whole:
                return
            self.data = self.data[whole:]
            latencies.append(now - self.due.popleft())


def pace(request: dict[str, Any]) -> dict[str, Any]:
    """``rate`` requests a second for ``seconds``, with Poisson arrivals."""
    lanes = [Lane(request, number) for number in range(request.get("connections", 16))]
    return paced(lanes, request)


if __name__ == "__main__":
    json.dump(pace(json.loads(sys.stdin.readline())), sys.stdout)
