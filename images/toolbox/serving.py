"""What the example services have in common: JSON over HTTP/1.1, until SIGTERM."""

import http.server
import json
import re
import signal
import socket
import threading
from contextlib import suppress
from typing import Any


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with JSON."""

    protocol_version = "HTTP/1.1"
    # A client that sends nothing must not hold a thread for ever.
    timeout = 30
    # Head and body leave together.
    wbufsize = 1 << 16

    def body(self, most: int) -> bytes | None:
        """The whole body of a request; None if it was refused, which the client knows by then.

        :param most: bytes that it may have
        """
        length = self.headers.get("Content-Length", "0")
        # Python's digits are also those of other scripts.
        if not re.fullmatch("[0-9]{1,15}", length) or int(length) > most:
            self.close_connection = True
            self.answer(413, {"error": f"the body has a length, of at most {most}"})
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            self.answer(400, {"error": "the body is not whole"})
            return None
        return body

    def answer(self, status: int, content: dict[str, Any]) -> None:
        """Send one answer."""
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    """A thread for each connection, and an end that loses no request."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: str, port: int, handler: type[Handler]) -> None:
        """Bind the address; an empty one is every address."""
        self._connections: set[socket.socket] = set()
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
