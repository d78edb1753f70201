"""A small counter service with one Redis, on localhost.

GET /hits/<name>  increments a counter and returns its value.
GET /livez        200 as long as the program runs.
GET /readyz       200 while Redis on localhost responds to a PING. It does not check the shards: one
                  failed shard must not make the whole service unready.

Environment: PORT (8080), REDIS (127.0.0.1:6379), PASSWORD_FILE (none).
"""

import os
import pathlib
import urllib.parse
from typing import Any

import redis
from serving import Handler, Server

LONGEST_NAME = 128


class Counter(Handler):
    """Responds with JSON; an error of Redis is a 503 with its message."""

    store: Any
    """A connection pool to the ambassador."""

    def do_GET(self) -> None:
        """Respond to one request."""
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        name = path.removeprefix("/hits/")
        try:
            if path == "/livez":
                self.answer(200, {"live": True})
            elif path == "/readyz":
                self.answer(200, {"ready": bool(self.store.ping())})
            elif path.startswith("/hits/") and 0 < len(name) <= LONGEST_NAME:
                self.answer(200, {"name": name, "hits": self.store.incr(f"hits:{name}")})
            else:
                self.answer(404, {"error": f"not /hits/<name> with 1 to {LONGEST_NAME} characters"})
        except redis.RedisError as error:
            self.answer(503, {"error": str(error)})

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log requests except probes."""
        if self.path not in {"/livez", "/readyz"}:
            super().log_request(code, size)


def connect(address: str, password: str | None) -> Any:
    """A client of ``host:port``."""
    host, _, port = address.rpartition(":")
    return redis.Redis(
        host, int(port), password=password, socket_timeout=5, socket_connect_timeout=5
    )


def main() -> None:
    """Serve until SIGTERM."""
    file = os.environ.get("PASSWORD_FILE")
    password = pathlib.Path(file).read_text().strip() if file else None
    Counter.store = connect(os.environ.get("REDIS", "127.0.0.1:6379"), password)
    Server("", int(os.environ.get("PORT", "8080")), Counter).run()


if __name__ == "__main__":
    main()
