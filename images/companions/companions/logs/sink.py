"""The output of entries, stdout, and the saved position of each source.

There is no queue. The thread that reads a source also writes its entries, so a blocked output stops
the reading: one entry a source is in memory, and the rest stays in the source.
"""

import json
import os
import pathlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from companions.logs.entry import Entry


class Sink:
    """Writes entries one after the other and saves the position of each source."""

    def __init__(self, folder: str, output: int = 1) -> None:
        self._folder = pathlib.Path(folder)
        self._output = output
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()
        self.written: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.newest: dict[str, float] = {}

    def position(self, source: str) -> dict[str, Any]:
        """The position after the source's last written entry; empty at first."""
        file = self._folder / f"{source}.json"
        self._files[source] = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # The end of an earlier, longer position may follow.
            kept: dict[str, Any] = json.JSONDecoder().raw_decode(file.read_text())[0]
        except ValueError:
            return {}
        return kept

    def put(self, source: str, entry: Entry, position: Mapping[str, Any]) -> None:
        """Write an entry, then save its position.

        Only a kill between the two system calls duplicates an entry, with the same id.
        """
        line = entry.line(source).encode()
        with self._lock:
            self._write(source, line, position)
            self.written[source] += 1
            self.newest[source] = time.time()

    def keep(self, source: str, position: Mapping[str, Any]) -> None:
        """Save a position without an entry."""
        with self._lock:
            self._write(source, b"", position)

    def _write(self, source: str, line: bytes, position: Mapping[str, Any]) -> None:
        try:
            while line:
                line = line[os.write(self._output, line) :]
            os.pwrite(self._files[source], json.dumps(position).encode(), 0)
        except OSError as error:
            # The output is closed, or the position cannot be saved: the next run continues from here.
            print(f"{source}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
