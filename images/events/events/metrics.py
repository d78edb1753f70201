"""Metrics of deliveries for Prometheus."""

from collections import Counter


class Metrics:
    """Counters since the start."""

    def __init__(self) -> None:
        self.deliveries: Counter[tuple[str, str]] = Counter()
        """By step and outcome."""
        self.seconds: Counter[str] = Counter()
        self.published = 0
        self.in_flight = 0
        self.without_room: Counter[str] = Counter()
        """Processed events whose next ones cannot be published yet."""

    def text(self, waiting: dict[str, int]) -> str:
        """Prometheus' text format.

        :param waiting: unacknowledged events by step
        """
        lines = ["# TYPE events_deliveries_total counter"]
        for (step, outcome), count in sorted(self.deliveries.items()):
            lines.append(f'events_deliveries_total{{step="{step}",outcome="{outcome}"}} {count}')
        lines.append("# TYPE events_delivery_seconds_total counter")
        for step, seconds in sorted(self.seconds.items()):
            lines.append(f'events_delivery_seconds_total{{step="{step}"}} {seconds:.6f}')
        lines.append("# TYPE events_published_total counter")
        lines.append(f"events_published_total {self.published}")
        lines.append("# TYPE events_in_flight gauge")
        lines.append(f"events_in_flight {self.in_flight}")
        lines.append("# TYPE events_waiting gauge")
        for step, count in sorted(waiting.items()):
            lines.append(f'events_waiting{{step="{step}"}} {count}')
        lines.append("# TYPE events_without_room gauge")
        for step, count in sorted(self.without_room.items()):
            lines.append(f'events_without_room{{step="{step}"}} {count}')
        return "\n".join(lines) + "\n"
