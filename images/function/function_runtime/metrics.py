"""Metrics in Prometheus' text format."""

import threading

_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one process."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._answers: dict[int, int] = {}
        self._buckets = [0] * (len(_BOUNDS) + 1)
        self._seconds = 0.0

    def answered(self, status: int, seconds: float) -> None:
        """Count one response."""
        with self._mutex:
            self._answers[status] = self._answers.get(status, 0) + 1
            self._seconds += seconds
            self._buckets[sum(1 for bound in _BOUNDS if seconds > bound)] += 1

    def text(self, function: str, running: int, waiting: int) -> str:
        """All metrics."""
        label = f'function="{function}"'
        with self._mutex:
            answers, buckets, seconds = dict(self._answers), list(self._buckets), self._seconds
        lines = [
            "# TYPE function_running gauge",
            f"function_running{{{label}}} {running}",
            "# TYPE function_waiting gauge",
            f"function_waiting{{{label}}} {waiting}",
            "# TYPE function_answers_total counter",
            *(
                f'function_answers_total{{{label},status="{status}"}} {count}'
                for status, count in sorted(answers.items())
            ),
            "# TYPE function_seconds histogram",
        ]
        reached = 0
        for bound, inside in zip((*map(str, _BOUNDS), "+Inf"), buckets, strict=True):
            reached += inside
            lines.append(f'function_seconds_bucket{{{label},le="{bound}"}} {reached}')
        lines += [
            f"function_seconds_sum{{{label}}} {seconds:.6f}",
            f"function_seconds_count{{{label}}} {reached}",
        ]
        return "\n".join(lines) + "\n"
