"""Reads log sources and writes their entries to stdout. The only argument is a JSON file.

GET /health    200 as long as this program runs
GET /metrics   metrics for Prometheus
"""

import json
import pathlib
import sys
import threading
import time
from typing import Any

from companions import web, worker
from companions.logs.files import AccessLog, SlowLog
from companions.logs.redis import Slowlog
from companions.logs.sink import Sink
from companions.logs.storm import Storm
from companions.metrics import CONTENT_TYPE, Family, Sample, exposition

KINDS: dict[str, Any] = {
    "redis_slowlog": Slowlog,
    "storm": Storm,
    "nginx_access": AccessLog,
    "mysql_slow": SlowLog,
}
# A source whose read makes no progress for so long counts as down.
STALE_SECONDS = 60.0
# Time to read the application's last entries after SIGTERM.
DRAIN_SECONDS = 5.0


class Reader:
    """Polls one source."""

    def __init__(self, settings: dict[str, Any], sink: Sink, stop: threading.Event) -> None:
        self.name: str = settings["name"]
        self.up = False
        self._progress = time.monotonic()
        self._logged: str | None = None
        self._sink = sink
        self._stop = stop
        self._pause = settings["poll_seconds"]
        arguments = [settings, sink.position(self.name)]
        if settings["kind"] == "redis_slowlog":
            arguments.append(self._lost)
        self.source = KINDS[settings["kind"]](*arguments)

    def is_up(self) -> bool:
        """Whether the source could be read, and the last progress is recent."""
        idle = time.monotonic() - self._progress
        return self.up and idle < self._pause + STALE_SECONDS

    def run(self) -> None:
        """Read until ``stop`` is set, and then once more."""
        while True:
            self._progress = time.monotonic()
            last = self._stop.is_set()
            self._once(last)
            if last:
                return
            self._stop.wait(self._pause)

    def _once(self, last: bool) -> None:
        try:
            for entry, position in self.source.read(last):
                self._progress = time.monotonic()
                if entry is None:
                    self._sink.keep(self.name, position)
                else:
                    self._sink.put(self.name, entry, position)
                    if hasattr(self.source, "release"):
                        self.source.release(position)
            up, reason = True, ""
        except Exception as error:  # noqa: BLE001 (any failure of a source is retried)
            up, reason = False, f"{type(error).__name__}: {error}"
        if up != self.up or self._logged is None:
            self._logged = reason
            what = "can be read" if up else f"cannot be read: {reason}"
            print(f"{self.name} {what}\n", end="", file=sys.stderr, flush=True)
        self.up = up

    def _lost(self, count: int) -> None:
        self._sink.lost[self.name] += count


def metrics(readers: list[Reader], sink: Sink) -> str:
    """The metrics for Prometheus."""

    def family(name: str, kind: str, meaning: str, values: dict[str, float]) -> Family:
        samples = [Sample(value, {"source": source}) for source, value in values.items()]
        return Family(f"log_adapter_{name}", kind, meaning, samples)

    names = [reader.name for reader in readers]
    waiting = {r.name: float(r.source.waiting()) for r in readers if hasattr(r.source, "waiting")}
    return exposition(
        [
            family("entries_total", "counter", "Entries written.",
                   {name: sink.written[name] for name in names}),
            family("lost_total", "counter", "Entries that the source dropped before they were read.",
                   {name: sink.lost[name] for name in names}),
            family("source_up", "gauge", "1 while the source can be read.",
                   {reader.name: float(reader.is_up()) for reader in readers}),
            family("waiting_bytes", "gauge", "Bytes of the file that are not read yet.", waiting),
            family("last_entry_timestamp_seconds", "gauge", "When the last entry was written.",
                   dict(sink.newest)),
        ]
    )  # fmt: skip


def main() -> None:
    """Read until SIGTERM."""
    settings = json.loads(pathlib.Path(sys.argv[1]).read_text())
    sink = Sink(settings["positions"])
    stop = threading.Event()
    readers = [Reader(source, sink, stop) for source in settings["sources"]]
    threads = [worker.start(reader.run, reader.name) for reader in readers]
    # The kubelet and Prometheus connect from outside the pod.
    web.Server(
        "0.0.0.0",  # noqa: S104
        settings["port"],
        {
            "/health": lambda _: web.Answer("ok\n"),
            "/metrics": lambda _: web.Answer(metrics(readers, sink), CONTENT_TYPE),
        },
    ).run()
    # The application exits before its companions: its last entries are written by now.
    stop.set()
    deadline = time.monotonic() + DRAIN_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


if __name__ == "__main__":
    main()
