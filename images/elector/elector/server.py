"""The sidecar's HTTP API: one port for the pod, one for the cluster."""

import http.server
import json
import queue
import re
import threading
from typing import Any

from elector.election import Election

_HEARTBEAT_SECONDS = 15.0
_MOST_BODY = 65536


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An idle client must not occupy a thread for ever.
    timeout = 60
    disable_nagle_algorithm = True

    @property
    def election(self) -> Election:
        found: Election = self.server.election  # type: ignore[attr-defined]
        return found

    def respond(self, status: int, content: Any, kind: str = "application/json") -> None:
        text = content if isinstance(content, str) else json.dumps(content) + "\n"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def discard_body(self) -> bool:
        """Read a request's body, so that the connection can be reused.

        :returns: False if it cannot be read completely; then the response is sent already
        """
        length = self.headers.get("Content-Length", "0")
        # Not isdigit(), which also accepts digits of other scripts.
        if (
            "Transfer-Encoding" not in self.headers
            and re.fullmatch("[0-9]{1,15}", length)
            and int(length) <= _MOST_BODY
            and len(self.rfile.read(int(length))) == int(length)
        ):
            return True
        self.close_connection = True
        self.respond(400, {"error": f"a body must have a Content-Length of at most {_MOST_BODY}"})
        return False

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log no requests: the application polls often."""


class Local(_Handler):
    """For the containers of the same pod."""

    def do_GET(self) -> None:
        """The status, once or at each change."""
        if self.path == "/":
            self.election.polled()
            self.respond(200, self.election.status())
        elif self.path == "/events":
            self._events()
        else:
            self.respond(
                404, {"error": "not one of GET /, GET /events, POST /resign, POST /campaign"}
            )

    def do_POST(self) -> None:
        """Resign, or campaign again."""
        if not self.discard_body():
            return
        if self.path == "/resign":
            self.election.polled()
            released = self.election.resign()
            self.respond(200, {**self.election.status(), "released": released})
        elif self.path == "/campaign":
            self.election.polled()
            self.election.campaign()
            self.respond(200, self.election.status())
        else:
            self.respond(
                404, {"error": "not one of GET /, GET /events, POST /resign, POST /campaign"}
            )

    def _events(self) -> None:
        subscriber = self.election.subscribe()
        if subscriber is None:
            self.respond(503, {"error": "too many subscribers"})
            return
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            while True:
                try:
                    status = subscriber.get(timeout=_HEARTBEAT_SECONDS)
                except queue.Empty:
                    # Writing an empty line shows whether the client is still connected.
                    self._chunk(b"\n")
                    continue
                if status is None:
                    break
                self._chunk(json.dumps(status).encode() + b"\n")
            self._chunk(b"")
        except OSError:
            self.close_connection = True
        finally:
            self.election.unsubscribe(subscriber)

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")


class Public(_Handler):
    """Read-only, for the kubelet and Prometheus."""

    def do_GET(self) -> None:
        """Health and metrics."""
        if self.path == "/healthz":
            # Independent of the store, which a restart would not repair.
            alive = self.election.alive
            self.respond(200 if alive else 500, {"alive": alive})
        elif self.path == "/readyz":
            ready = self.election.ready
            self.respond(200 if ready else 503, {"ready": ready})
        elif self.path == "/metrics":
            self.respond(200, self.election.metrics(), "text/plain; version=0.0.4; charset=utf-8")
        else:
            self.respond(404, {"error": "not one of /healthz, /readyz, /metrics"})


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def serve(
    election: Election, handler: type[_Handler], address: str, port: int
) -> http.server.ThreadingHTTPServer:
    """Serve at the address in a thread of its own.

    :param port: 0 for any free port
    """
    server = _Server((address, port), handler)
    server.election = election  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, name=handler.__name__, daemon=True).start()
    return server
