"""Health and metrics on a port of their own, answered while all of the function's places are taken."""

import http.server
import json
import threading
from typing import Protocol


class Watched(Protocol):
    """What is asked."""

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""

    def measured(self) -> str:
        """Metrics for Prometheus."""

    def activity(self) -> dict[str, float]:
        """What goes on, for who decides whether it is needed."""


class _Health(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A client that sends nothing must not hold a thread for ever.
    timeout = 30

    def do_GET(self) -> None:
        """Health, readiness and metrics; nothing here is the function's."""
        watched: Watched = self.server.watched  # type: ignore[attr-defined]
        if self.path == "/healthz":
            self._answer(200, {"alive": True})
        elif self.path == "/readyz":
            self._answer(200 if watched.ready else 503, {"ready": watched.ready})
        elif self.path == "/activity":
            self._answer(200 if watched.ready else 503, watched.activity())
        elif self.path == "/metrics":
            self._answer(200, watched.measured(), "text/plain; version=0.0.4; charset=utf-8")
        else:
            self._answer(404, {"error": "there is /healthz, /readyz, /activity and /metrics"})

    def _answer(self, status: int, content: object, kind: str = "application/json") -> None:
        text = content if isinstance(content, str) else json.dumps(content) + "\n"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log no request: they are probes."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


def serve(watched: Watched, port: int) -> http.server.ThreadingHTTPServer:
    """Answer in a thread of its own.

    :param port: 0 for any that is free
    """
    server = _Server(("", port), _Health)
    server.watched = watched  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
