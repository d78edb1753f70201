"""What the example services have in common: JSON over HTTP/1.1, until SIGTERM.

A request is read to its end, in bounded time, before it gets a place and is answered. A client that
is slow holds a connection, no more, and where there are too many, those that are read longest end.
"""

import http.server
import io
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

PROBES = frozenset({"/livez", "/readyz"})
"""Paths that have places of their own, which no other request can take."""
MOST_CONNECTIONS = 128
"""Connections whose next request is not whole; one more ends the one that is so for longest."""
MOST_ANSWERS = 64
"""Requests that are answered at a time; one more is refused with 503."""
MOST_PROBES = 8
"""The same for probes."""

_LINGER_SECONDS = 2.0
_PIECE_BYTES = 65536


class Places:
    """Which connections are read, and how many requests are answered."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        # In the order in which that began.
        self._read: dict[socket.socket, None] = {}
        self._answered = {True: 0, False: 0}

    @contextmanager
    def reading(self, connection: socket.socket) -> Iterator[None]:
        """While something is awaited of a client; ends another connection if there are too many."""
        with self._mutex:
            oldest = next(iter(self._read)) if len(self._read) >= MOST_CONNECTIONS else None
            if oldest is not None:
                del self._read[oldest]
            self._read[connection] = None
        if oldest is not None:
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            self.whole(connection)

    def whole(self, connection: socket.socket) -> None:
        """Nothing is awaited of it any more."""
        with self._mutex:
            self._read.pop(connection, None)

    def take(self, *, probe: bool) -> bool:
        """A place for an answer; False if there is none."""
        with self._mutex:
            if self._answered[probe] >= (MOST_PROBES if probe else MOST_ANSWERS):
                return False
            self._answered[probe] += 1
            return True

    def give(self, *, probe: bool) -> None:
        """Give it back."""
        with self._mutex:
            self._answered[probe] -= 1


class _Incoming(io.RawIOBase):
    """What a client sends, until a moment that all of it has in common."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._until = 0.0

    def within(self, seconds: float) -> None:
        """Give what comes from now on so much time, all together."""
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for some bytes.

        :raises TimeoutError: the time is over
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request takes too long")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Outgoing(io.BytesIO):
    """An answer; it leaves as one, and within ``seconds`` or not at all."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        super().__init__()
        self._connection = connection
        self._seconds = seconds

    def flush(self) -> None:
        """Send what was written."""
        written = self.getvalue()
        self.seek(0)
        self.truncate()
        self._connection.settimeout(self._seconds)
        self._connection.sendall(written)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with JSON."""

    protocol_version = "HTTP/1.1"
    # Seconds: for the first byte of the next request, and for taking an answer.
    timeout = 30.0
    request_seconds = 30.0
    """For the rest of a request, head and body together."""
    most_body = 65536
    """Bytes that a request's body may have."""
    body = b""
    """Of the request that is answered, all of it."""
    length = 0
    """The bytes it has."""
    # Of a request that cannot be read; what logs it need not know.
    path = ""

    def setup(self) -> None:
        """Read and write within the bounds."""
        self.connection = self.request
        self._incoming = _Incoming(self.connection)
        self.rfile = io.BufferedReader(self._incoming)
        self.wfile = _Outgoing(self.connection, self.timeout)
        # Who serves these requests otherwise than Server has bounds of its own.
        self._places: Places = getattr(self.server, "places", None) or Places()
        self._place: bool | None = None
        self._unread = False

    def handle_one_request(self) -> None:
        """Answer one request, or end the connection."""
        self.close_connection = True
        try:
            with self._places.reading(self.connection):
                self._incoming.within(self.timeout)
                if self.rfile.peek(1):
                    self._incoming.within(self.request_seconds)
                    super().handle_one_request()
        except (TimeoutError, ConnectionError):
            # Nobody is there, or nobody who speaks: that is no fault of ours.
            self.close_connection = True
        finally:
            if self._place is not None:
                self._places.give(probe=self._place)
                self._place = None

    def parse_request(self) -> bool:
        """Read the rest of a request, and take a place; False if it was refused."""
        return super().parse_request() and self._taken() and self._placed()

    def _taken(self) -> bool:
        if "Transfer-Encoding" in self.headers:
            return self._refused(HTTPStatus.LENGTH_REQUIRED, "a body has a Content-Length")
        # Python's digits are also those of other scripts.
        given = ",".join(self.headers.get_all("Content-Length", ["0"]))
        if not re.fullmatch("[0-9]{1,15}", given) or int(given) > self.most_body:
            return self._refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body has a length, of at most {self.most_body}",
            )
        # Somebody may wait to be told to go on.
        self.wfile.flush()
        self.body = b""
        self.length = left = int(given)
        while left and (piece := self.rfile.read(min(left, _PIECE_BYTES))):
            left -= len(piece)
            self.take(piece)
        return not left or self._refused(HTTPStatus.BAD_REQUEST, "the body is not whole")

    def take(self, piece: bytes) -> None:
        """Keep a piece of the body."""
        self.body += piece

    def _placed(self) -> bool:
        self._places.whole(self.connection)
        probe = self.path in PROBES
        if not self._places.take(probe=probe):
            return self._refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at a time")
        self._place = probe
        return True

    def _refused(self, status: HTTPStatus, why: str) -> bool:
        self.close_connection = self._unread = True
        self.answer(status, {"error": why})
        return False

    def answer(self, status: int, content: dict[str, Any]) -> None:
        """Send one answer."""
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def finish(self) -> None:
        """Let a client that still sends read why that is not wanted."""
        with suppress(OSError):
            self.wfile.flush()
            if self._unread:
                self.connection.shutdown(socket.SHUT_WR)
                self._incoming.within(_LINGER_SECONDS)
                with self._places.reading(self.connection):
                    while self.rfile.read1(_PIECE_BYTES):
                        pass
        super().finish()


class Server(http.server.ThreadingHTTPServer):
    """A thread for each connection, of which there are only so many; its end loses no request."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: str, port: int, handler: type[Handler]) -> None:
        """Bind the address; an empty one is every address."""
        self._connections: set[socket.socket] = set()
        self.places = Places()
        super().__init__((address, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection's requests in a thread."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Wait for what is being answered.

        A connection that is kept for later requests is told that there are none: its thread would
        wait for the next one, and the process with it, until it is killed.
        """
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        super().server_close()

    def run(self) -> None:
        """Serve until SIGTERM."""
        # shutdown() waits for the loop below, so it must not run in its thread.
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=self.shutdown).start())
        self.serve_forever(poll_interval=0.1)
        self.server_close()
