"""Storm's metrics from the API of its UI: one entry a topology, spout and bolt each interval.

Each interval is sampled once. A sample has the number of its interval, so that a restart within the
interval continues it.
"""

import http.client
import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from companions.logs.entry import Entry

TIMEOUT_SECONDS = 5.0
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
        self._is_whole = False

    def read(self, _last: bool = False) -> Iterator[tuple[Entry, dict[str, Any]]]:
        """This interval's entries that are not written yet.

        A failure of one topology does not affect the others, and is retried with the next call, as
        is a failure of all.
        """
        interval = self._settings["interval_seconds"]
        sample = int(time.time() // interval)
        if sample != self._sample:
            self._sample, self._done, self._is_whole = sample, [], False
        if self._is_whole:
            return
        failure = None
        for topology in self._get("/api/v1/topology/summary")["topologies"]:
            try:
                entries = list(self._entries(sample * interval, topology["id"]))
            except Exception as error:  # noqa: BLE001 (raised at the end)
                failure = error
                continue
            for entry in sorted(entries, key=lambda entry: entry.id):
                if entry.id not in self._done:
                    self._done.append(entry.id)
                    yield entry, {"sample": sample, "done": list(self._done)}
        if failure is not None:
            raise failure
        self._is_whole = True

    def _entries(self, at: float, topology: str) -> Iterator[Entry]:
        window, system = self._settings["window"], self._settings["sys"]
        identity = urllib.parse.quote(topology, safe="")
        found = self._get(f"/api/v1/topology/{identity}?window={window}&sys={system}")
        name = str(found.get("name", topology))
        for stats in found.get("topologyStats", ()):
            if str(stats.get("window")) == str(window):
                yield self._entry(at, topology, name, "topology", name, stats)
        for kind, key in (("spout", "spouts"), ("bolt", "bolts")):
            for part in found.get(key, ()):
                part_name = str(part[f"{kind}Id"])
                yield self._entry(at, topology, name, kind, part_name, part)

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
            duration_ms=latency if latency is not None and latency >= 0 else None,
            attributes={"topology": topology, "component": kind, "name": name,
                        "window_seconds": self._settings["window"], **numbers},
        )  # fmt: skip

    def _get(self, path: str) -> Any:
        url = self._settings["url"].rstrip("/") + path
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            return json.loads(_whole(answer, url))


def _whole(answer: http.client.HTTPResponse, url: str) -> bytes:
    """The complete body.

    :raises OSError: it is too long, too slow, or truncated
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    raw = b""
    while piece := answer.read1(1 << 16):
        raw += piece
        if len(raw) > _MOST_BYTES:
            raise OSError(f"{url} responds with more than {_MOST_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{url} timed out: no complete response in {TIMEOUT_SECONDS:g} s")
    announced = answer.headers["Content-Length"]
    if announced is not None and int(announced) != len(raw):
        raise OSError(f"{url}: the response is truncated to {len(raw)} of {announced} bytes")
    return raw


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
