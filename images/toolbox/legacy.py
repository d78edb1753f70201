"""A legacy server: plain HTTP on loopback, configured by files.

GET /            the request as the server sees it, and the process that handles it
GET /config      the files as of their last read, and its time
GET /slow/<ms>   the same as /, after a delay
GET /readyz      200 as long as the program runs
POST /reload     reads the files again, like SIGHUP

Environment: PORT (8080), CONFIG_FOLDER (none): a folder of small text files.
"""

import os
import pathlib
import signal
import threading
import time
from typing import Any

from serving import Handler, Server

LOOPBACK = "127.0.0.1"
LONGEST_MS = 10_000
MOST_BYTES = 65536
MOST_BODY = 2**30


class Files:
    """The files of the folder, as of the last read."""

    def __init__(self, folder: str | None) -> None:
        self._folder = pathlib.Path(folder) if folder else None
        self._state: dict[str, Any] = {"files": {}, "reads": 0, "read_at": 0.0}
        self.read()

    def read(self) -> None:
        """Read every file; replaces the former state atomically."""
        files: dict[str, str] = {}
        if self._folder is not None and self._folder.is_dir():
            for file in sorted(self._folder.iterdir()):
                if not file.name.startswith(".") and file.is_file():
                    files[file.name] = file.read_text(errors="replace")[:MOST_BYTES]
        reads = self._state["reads"] + 1
        self._state = {"files": files, "reads": reads, "read_at": time.time()}

    @property
    def state(self) -> dict[str, Any]:
        """The files, the number of reads and the time of the last one (Unix seconds)."""
        return self._state


class Legacy(Handler):
    """Responds with JSON."""

    files: Files
    started = time.time()
    most_body = MOST_BODY

    def take(self, piece: bytes) -> None:
        """Discard it: only the length is returned."""

    def do_GET(self) -> None:
        """Respond to one request."""
        first, _, rest = self.path.removeprefix("/").partition("/")
        if first == "readyz":
            self.answer(200, {"ready": True})
        elif first == "config":
            self.answer(200, self.files.state)
        elif first == "slow" and rest.isdecimal() and int(rest) <= LONGEST_MS:
            time.sleep(int(rest) / 1000)
            self.answer(200, self._seen())
        elif first == "":
            self.answer(200, self._seen())
        else:
            self.answer(404, {"error": "not one of / /config /slow/<ms> /readyz"})

    def do_POST(self) -> None:
        """Read the files again, or read the body and return its length."""
        if self.path == "/reload":
            self.files.read()
            self.answer(200, {"reads": self.files.state["reads"]})
        else:
            self.answer(200, {**self._seen(), "bytes": self.length})

    def _seen(self) -> dict[str, Any]:
        return {
            "from": self.client_address[0],
            "method": self.command,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "pid": os.getpid(),
            "pod": os.environ.get("HOSTNAME", ""),
            "started": self.started,
        }

    def log_message(self, *_: Any) -> None:
        """Log no requests."""


def main() -> None:
    """Serve until SIGTERM."""
    Legacy.files = Files(os.environ.get("CONFIG_FOLDER"))
    signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=Legacy.files.read).start())
    # Only its own pod can reach it.
    Server(LOOPBACK, int(os.environ.get("PORT", "8080")), Legacy).run()


if __name__ == "__main__":
    main()
