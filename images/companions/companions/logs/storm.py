"""Storm's metrics, as its UI's API gives them: one entry a topology, spout and bolt each interval.

The sample of an interval is taken once: its number is the interval's, so that a restart within it
goes on where it was.
"""

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from companions.logs.entry import Entry

PATIENCE = 5.0
_MOST_BYTES = 8 << 20
_NUMBERS = (
    "emitted", "transferred", "acked", "failed", "completeLatency", "executeLatency",
    "processLatency", "capacity", "executed", "executors", "tasks",
)  # fmt: skip


class Storm:
    """Samples of the topologies' windows."""

    def __init__(self, settings: dict[str, Any], position: dict[str, Any]) -> None:
        self._settings = settings
        self._sample: int = position.get("sample", -1)
        self._done: list[str] = position.get("done", [])

    def read(self) -> Iterator[tuple[Entry, dict[str, Any]]]:
        """This interval's entries that were not written yet."""
        interval = self._settings["interval_seconds"]
        sample = int(time.time() // interval)
        if sample == self._sample and not self._done:
            return
        if sample != self._sample:
            self._sample, self._done = sample, []
        entries = sorted(self._entries(sample * interval), key=lambda entry: entry.id)
        for entry in entries:
            if entry.id in self._done:
                continue
            self._done.append(entry.id)
            yield entry, {"sample": sample, "done": list(self._done)}
        # All of it: nothing more until the next interval.
        self._done = []

    def _entries(self, at: float) -> Iterator[Entry]:
        window, system = self._settings["window"], self._settings["sys"]
        for topology in self._get("/api/v1/topology/summary")["topologies"]:
            identity = urllib.parse.quote(topology["id"], safe="")
            found = self._get(f"/api/v1/topology/{identity}?window={window}&sys={system}")
            name = found.get("name", topology["id"])
            for stats in found.get("topologyStats", ()):
                if str(stats.get("window")) == str(window):
                    yield self._entry(at, topology["id"], name, "topology", name, stats)
            for kind, key in (("spout", "spouts"), ("bolt", "bolts")):
                for part in found.get(key, ()):
                    part_name = str(part[f"{kind}Id"])
                    yield self._entry(at, topology["id"], name, kind, part_name, part)

    def _entry(
        self, at: float, topology_id: str, topology: str, kind: str, name: str, found: Any
    ) -> Entry:
        numbers = {key: float(found[key]) for key in _NUMBERS if _is_number(found.get(key))}
        failed = numbers.get("failed", 0)
        error = str(found.get("lastError") or "")
        latency = numbers.get("completeLatency", numbers.get("processLatency"))
        return Entry(
            id=f"{topology_id}:{kind}:{name}:{at:.0f}",
            time=at,
            kind="storm",
            severity="error" if error else "warning" if failed else "info",
            message=error or f"{kind} {name}: {numbers.get('emitted', 0):.0f} emitted, "
            f"{failed:.0f} failed in {self._settings['window']} s",
            duration_ms=latency,
            attributes={"topology": topology, "component": kind, "name": name,
                        "window_seconds": self._settings["window"], **numbers},
        )  # fmt: skip

    def _get(self, path: str) -> Any:
        url = self._settings["url"].rstrip("/") + path
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 (checked before)
            raw = answer.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise OSError(f"{url} answers with more than {_MOST_BYTES} bytes")
        return json.loads(raw)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
