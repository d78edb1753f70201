"""Metrics in Prometheus' text format."""

import threading
from collections.abc import Mapping

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Counters of one candidate."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._buckets = [0] * (len(_BOUNDS) + 1)
        self._renew_seconds = 0.0
        self._counts = {
            "elections_won_total": 0,
            "elections_lost_total": 0,
            "leader_changes_total": 0,
            "renew_failures_total": 0,
            "acquire_attempts_total": 0,
            "notifications_total": 0,
            "notification_failures_total": 0,
            "workers_lost_total": 0,
        }

    def count(self, name: str) -> None:
        """Add one to a counter."""
        with self._mutex:
            self._counts[name] += 1

    def renewed(self, seconds: float) -> None:
        """Record the duration of a renewal."""
        with self._mutex:
            position = next(
                (i for i, bound in enumerate(_BOUNDS) if seconds <= bound), len(_BOUNDS)
            )
            self._buckets[position] += 1
            self._renew_seconds += seconds

    def text(self, labels: Mapping[str, str], gauges: Mapping[str, float], leader: str) -> str:
        """All metrics.

        :param labels: labels of every sample
        :param gauges: current values, by name
        :param leader: identity of the leader, empty if unknown
        """
        common = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
        lines: list[str] = []
        for name, value in gauges.items():
            lines += [
                f"# TYPE elector_{name} gauge",
                f"elector_{name}{{{common}}} {_number(value)}",
            ]
        lines.append("# TYPE elector_leader gauge")
        if leader:
            lines.append(f'elector_leader{{{common},leader="{_escaped(leader)}"}} 1')
        with self._mutex:
            counts, buckets = dict(self._counts), list(self._buckets)
            total = self._renew_seconds
        for name, count in counts.items():
            lines += [f"# TYPE elector_{name} counter", f"elector_{name}{{{common}}} {count}"]
        lines.append("# TYPE elector_renew_seconds histogram")
        reached = 0
        for bound, inside in zip((*map(str, _BOUNDS), "+Inf"), buckets, strict=True):
            reached += inside
            lines.append(f'elector_renew_seconds_bucket{{{common},le="{bound}"}} {reached}')
        lines.append(f"elector_renew_seconds_sum{{{common}}} {total:.6f}")
        lines.append(f"elector_renew_seconds_count{{{common}}} {reached}")
        return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    # A term may have seven digits; "%g" would round it.
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
