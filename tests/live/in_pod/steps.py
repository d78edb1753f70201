"""The steps of the tests' pipeline: what they do with an event, the event says.

POST /<step>   {"fail": {<step>: n}} answers 500 that often for its key; {"slow": seconds} takes as
               long before it has an effect, {"slow_first": seconds} on the first attempt only. The
               effect is one for each Idempotency-Key.
GET  /calls?after=<n>   every call since line n, also of a container before this one.
GET  /working           the keys that are being worked on.
GET  /count?mark=<text>   how many effects there are for keys that begin with it.

Runs inside a pod with nothing but Python's standard library, so nothing of the project is imported.
"""

import http.server
import json
import pathlib
import threading
import time
import urllib.parse
from collections import Counter
from typing import Any

JOURNAL = pathlib.Path("/var/steps/journal")


class Steps:
    """What was called, in a file that outlives the container."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tries: Counter[str] = Counter()
        self._working: Counter[str] = Counter()
        self._lines: list[dict[str, Any]] = []
        if JOURNAL.exists():
            for line in JOURNAL.read_text().splitlines():
                self._take(json.loads(line))
        self._file = JOURNAL.open("a", buffering=1)
        self._effects = {one["key"] for one in self._lines if one["effect"]}

    def _take(self, entry: dict[str, Any]) -> None:
        self._lines.append(entry)
        self._tries[entry["key"]] += 1

    def _write(self, entry: dict[str, Any]) -> None:
        self._take(entry)
        self._file.write(json.dumps(entry) + "\n")

    def call(self, step: str, key: str, attempt: int, data: dict[str, Any]) -> int:
        """Work on an event; the status."""
        entry = {
            "step": step, "key": key, "attempt": attempt, "at": time.time(), "effect": False,
        }  # fmt: skip
        with self._lock:
            tried = self._tries[key]
            if tried < data.get("fail", {}).get(step, 0):
                self._write(entry)
                return 500
            self._working[key] += 1
        time.sleep(data.get("slow", 0) + (data.get("slow_first", 0) if attempt == 1 else 0))
        with self._lock:
            self._working[key] -= 1
            new = key not in self._effects
            self._effects.add(key)
            self._write({**entry, "effect": new})
        return 200

    def working(self) -> list[str]:
        """The keys under way."""
        with self._lock:
            return sorted((+self._working).elements())

    def count(self, mark: str) -> int:
        """Effects of some events."""
        with self._lock:
            return sum(key.startswith(mark) for key in self._effects)

    def calls(self, after: int) -> list[dict[str, Any]]:
        """Calls from a line on; below 0 none."""
        with self._lock:
            return self._lines[after:] if after >= 0 else []


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with JSON."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    steps: Steps

    def do_GET(self) -> None:
        if self.path == "/working":
            self._answer(200, self.steps.working())
            return
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        if self.path.startswith("/count"):
            self._answer(200, self.steps.count(query["mark"][0]))
            return
        self._answer(200, self.steps.calls(int(query.get("after", ["0"])[0])))

    def do_POST(self) -> None:
        data = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        status = self.steps.call(
            self.path.strip("/"),
            self.headers.get("Idempotency-Key", ""),
            int(self.headers.get("dds-attempt", 0)),
            data,
        )
        self._answer(status, {f"by-{self.path.strip('/')}": True})

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Handler.steps = Steps()
    Server(("", 8080), Handler).serve_forever(poll_interval=0.2)
