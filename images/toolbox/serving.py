"""The HTTP server of the example services: JSON over HTTP/1.1, until SIGTERM.

A request is read completely, with a timeout, before it gets a slot and is handled. A slow client
occupies only a connection, and if there are too many, the oldest incomplete ones are closed.
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
"""Paths with slots of their own, which no other request can take."""
MOST_CONNECTIONS = 128
"""Maximum connections with an incomplete request; one more closes the oldest of them."""
MOST_ANSWERS = 64
"""Maximum concurrent requests; one more gets a 503."""
MOST_PROBES = 8
"""The same for probes."""

_LINGER_SECONDS = 2.0
_PIECE_BYTES = 65536


class Places:
    """The connections that are read, and the slots for requests."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        # Oldest first.
        self._read: dict[socket.socket, None] = {}
        self._answered = {True: 0, False: 0}

    @contextmanager
    def reading(self, connection: socket.socket) -> Iterator[None]:
        """Count a connection whose data is awaited; closes the oldest if there are too many."""
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
        """The connection's request is complete."""
        with self._mutex:
            self._read.pop(connection, None)

    def take(self, *, probe: bool) -> bool:
        """Take a slot; False if there is none."""
        with self._mutex:
            if self._answered[probe] >= (MOST_PROBES if probe else MOST_ANSWERS):
                return False
            self._answered[probe] += 1
            return True

    def give(self, *, probe: bool) -> None:
        """Release a slot."""
        with self._mutex:
            self._answered[probe] -= 1


class _Incoming(io.RawIOBase):
    """The data of a client, with one deadline for all reads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._until = 0.0

    def within(self, seconds: float) -> None:
        """Set the deadline of all further reads."""
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for some bytes.

        :raises TimeoutError: the deadline has passed
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request timed out")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Outgoing(io.BytesIO):
    """A buffered response, sent at once with a timeout of ``seconds``."""

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
    """Responds with JSON."""

    protocol_version = "HTTP/1.1"
    # Seconds: for the first byte of the next request, and to send a response.
    timeout = 30.0
    request_seconds = 30.0
    """Timeout for the rest of a request, headers and body."""
    most_body = 65536
    """Maximum bytes of a request's body."""
    body = b""
    """The complete body of the current request."""
    length = 0
    """Its length in bytes."""
    # Default for the log of an invalid request.
    path = ""

    def setup(self) -> None:
        """Set up reading and writing with timeouts."""
        self.connection = self.request
        self._incoming = _Incoming(self.connection)
        self.rfile = io.BufferedReader(self._incoming)
        self.wfile = _Outgoing(self.connection, self.timeout)
        # Without Server there are no limits.
        self._places: Places = getattr(self.server, "places", None) or Places()
        self._place: bool | None = None
        self._unread = False

    def handle_one_request(self) -> None:
        """Handle one request, or close the connection."""
        self.close_connection = True
        try:
            with self._places.reading(self.connection):
                self._incoming.within(self.timeout)
                if self.rfile.peek(1):
                    self._incoming.within(self.request_seconds)
                    super().handle_one_request()
        except (TimeoutError, ConnectionError):
            # The client has disconnected or is idle.
            self.close_connection = True
        finally:
            if self._place is not None:
                self._places.give(probe=self._place)
                self._place = None

    def parse_request(self) -> bool:
        """Read the rest of a request, and take a slot; False if it was refused."""
        return super().parse_request() and self._taken() and self._placed()

    def _taken(self) -> bool:
        if "Transfer-Encoding" in self.headers:
            return self._refused(HTTPStatus.LENGTH_REQUIRED, "a body must have a Content-Length")
        # Not isdigit(), which also accepts digits of other scripts.
        given = ",".join(self.headers.get_all("Content-Length", ["0"]))
        if not re.fullmatch("[0-9]{1,15}", given) or int(given) > self.most_body:
            return self._refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body must have a length of at most {self.most_body}",
            )
        # Send a pending "100 Continue".
        self.wfile.flush()
        self.body = b""
        self.length = left = int(given)
        while left and (piece := self.rfile.read(min(left, _PIECE_BYTES))):
            left -= len(piece)
            self.take(piece)
        return not left or self._refused(HTTPStatus.BAD_REQUEST, "the body is truncated")

    def take(self, piece: bytes) -> None:
        """Append a piece of the body."""
        self.body += piece

    def _placed(self) -> bool:
        self._places.whole(self.connection)
        probe = self.path in PROBES
        if not self._places.take(probe=probe):
            return self._refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many concurrent requests")
        self._place = probe
        return True

    def _refused(self, status: HTTPStatus, why: str) -> bool:
        self.close_connection = self._unread = True
        self.answer(status, {"error": why})
        return False

    def answer(self, status: int, content: dict[str, Any]) -> None:
        """Send a response."""
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def finish(self) -> None:
        """Close the connection; after a refusal read on, so that the client can read the response."""
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
    """A thread for each connection, with a limit; a shutdown loses no request."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: str, port: int, handler: type[Handler]) -> None:
        """Bind the address; an empty one is all addresses."""
        self._connections: set[socket.socket] = set()
        self.places = Places()
        super().__init__((address, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection's requests in a thread."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Remove the connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Wait for the requests in flight.

        Idle keep-alive connections are closed: their threads would wait for the next request, and
        the process with them, until it is killed.
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
