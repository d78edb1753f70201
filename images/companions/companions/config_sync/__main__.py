"""`python3 -m companions.config_sync <config.json>`: the loop, and its state over HTTP.

GET /started   200 once the folder has been synchronized
GET /live      200 while the loop runs
GET /health    200 while the folder is known to be in sync with the source
GET /metrics   metrics for Prometheus
"""

import json
import logging
import pathlib
import sys
import time
from typing import Any

from companions import worker
from companions.config_sync.sources import source_of
from companions.config_sync.sync import Sync
from companions.metrics import CONTENT_TYPE, Family, Sample, exposition
from companions.web import Answer, Request, Server, as_json

# A turn reads (at most 30 s, and 10 s for the last part), checks (30 s) and notifies (5 s).
_TURN_SECONDS = 90


class Page:
    """The HTTP handlers that report the state of the loop."""

    def __init__(self, config: dict[str, Any], sync: Sync) -> None:
        self._config = config
        self._sync = sync

    def started(self, _: Request) -> Answer:
        """Whether the application may start."""
        good = self._sync.state.placed
        return as_json({"started": good, "problem": self._sync.state.problem}, 200 if good else 503)

    def live(self, _: Request) -> Answer:
        """Whether the loop still runs; if not, the liveness probe restarts the container."""
        idle = time.monotonic() - self._sync.state.turn
        alive = idle < self._config["interval_seconds"] + _TURN_SECONDS
        return as_json({"live": alive, "idle_seconds": round(idle, 1)}, 200 if alive else 503)

    def healthy(self) -> bool:
        """Whether the last success is recent enough."""
        success = self._sync.state.success
        return (
            success is not None and time.monotonic() - success < self._config["stale_after_seconds"]
        )

    def health(self, _: Request) -> Answer:
        """Whether the folder is known to be in sync with the source."""
        state = self._sync.state
        good = self.healthy()
        return as_json(
            {
                "healthy": good,
                "problem": state.problem,
                "last_success": state.success_unix,
                "generation": state.generation,
                "digest": state.digest,
                "files": state.files,
            },
            200 if good else 503,
        )

    def metrics(self, _: Request) -> Answer:
        """For Prometheus."""
        state = self._sync.state
        families = [
            Family("config_sync_healthy", "gauge", "Whether the folder is in sync with the source.",
                   [Sample(float(self.healthy()))]),
            Family("config_sync_last_success_timestamp_seconds", "gauge",
                   "When the folder was last known to be in sync with the source.",
                   [Sample(state.success_unix)]),
            Family("config_sync_last_change_timestamp_seconds", "gauge",
                   "When the files were last swapped.", [Sample(state.changed_unix)]),
            Family("config_sync_generation", "counter", "Swaps of the files.",
                   [Sample(state.generation)]),
            Family("config_sync_files", "gauge", "Files in place.", [Sample(state.files)]),
            Family("config_sync_reads_total", "counter", "Reads of the source.",
                   [Sample(state.reads)]),
            Family("config_sync_tellings_total", "counter", "Notifications of the application.",
                   [Sample(state.tellings)]),
            Family("config_sync_failures_total", "counter", "Failures, by the step that failed.",
                   [Sample(count, {"what": what}) for what, count in state.failures.items()]),
        ]  # fmt: skip
        return Answer(exposition(families), CONTENT_TYPE)


def main() -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    config = json.loads(pathlib.Path(sys.argv[1]).read_text())
    sync = Sync(config, source_of(config["source"]))
    page = Page(config, sync)
    worker.start(sync.run, "sync")
    routes = {
        "/started": page.started,
        "/live": page.live,
        "/health": page.health,
        "/metrics": page.metrics,
    }
    Server("0.0.0.0", config["port"], routes).run()  # noqa: S104


if __name__ == "__main__":
    main()
