"""A small counter service that knows one Redis, on localhost.

GET /hits/<name>  adds one to a counter and answers with its value.
GET /livez        answers as long as the program runs.
GET /readyz       answers while something on localhost speaks Redis. Which shards live it does not
                  ask: one that is gone must not take the whole service with it.

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
    """Answers with JSON; what Redis refuses is a 503 with its words."""

    store: Any
    """One pool of connections to the ambassador."""

    def do_GET(self) -> None:
        """Answer one request."""
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
                self.answer(404, {"error": f"there is /hits/<name>, 1 to {LONGEST_NAME} letters"})
        except redis.RedisError as error:
            self.answer(503, {"error": str(error)})

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log what is not a probe."""
        if self.path not in {"/livez", "/readyz"}:
            super().log_request(code, size)


def connect(address: str, password: str | None) -> Any:
    """Make a client of whatever listens at ``host:port``."""
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
