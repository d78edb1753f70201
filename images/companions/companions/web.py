"""A small HTTP server: GET and HEAD of a few paths, until SIGTERM."""

import dataclasses
import http.server
import json
import logging
import signal
import socket
import socketserver
import sys
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)

# Requests at the same time; more wait in the kernel's queue. What runs beside an application must
# not grow with whoever asks.
MOST_REQUESTS = 16
# A client that sends or reads nothing holds one of them this long, in seconds.
PATIENCE = 10


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for."""

    path: str
    query: Mapping[str, str]
    """The last value of each name."""
    headers: Mapping[str, str]
    """By name in lower case."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is sent back."""

    body: str
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


Route = Callable[[Request], Answer]


def as_json(value: Any, status: int = 200) -> Answer:
    """An answer for machines."""
    return Answer(json.dumps(value, indent=1) + "\n", "application/json", status)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    server: "Server"

    def do_GET(self) -> None:
        """Answer with what the path's route says."""
        url = urllib.parse.urlsplit(self.path)
        route = self.server.routes.get(url.path)
        if route is None:
            known = " ".join(sorted(self.server.routes))
            self._send(Answer(f"there is {known}\n", status=404))
            return
        request = Request(
            url.path,
            dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True)),
            {name.lower(): value for name, value in self.headers.items()},
        )
        try:
            answer = route(request)
        except Exception:
            # One bad answer must not end the program; its reason belongs into the log only.
            log.exception("GET %s", url.path)
            answer = Answer("failed, see the log\n", status=500)
        self._send(answer)

    def do_HEAD(self) -> None:
        """The same without the body."""
        self.do_GET()

    def _send(self, answer: Answer) -> None:
        body = answer.body.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        """Tell nobody which Python this is."""
        return "companions"

    def log_message(self, *_: Any) -> None:
        """Probes and scrapes are not worth a line."""


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers the routes' paths at one address."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: str, port: int, routes: Mapping[str, Route]) -> None:
        """Bind the address; an error if it is taken."""
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.routes = dict(routes)
        self._slots = threading.BoundedSemaphore(MOST_REQUESTS)
        super().__init__((address, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Wait for a free slot, then answer in a thread."""
        self._slots.acquire()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Free the slot with the connection."""
        super().shutdown_request(request)
        self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that went away is no error of ours."""
        log.debug("connection of %s ended: %s", client_address, sys.exception())

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            # shutdown() waits for the loop below, so it must not run in its thread.
            signal.signal(number, lambda *_: threading.Thread(target=self.shutdown).start())
        self.serve_forever()
        self.server_close()
