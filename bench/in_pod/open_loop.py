"""An open loop: requests are sent when they are due, whether or not responses have arrived.

Latency is measured from the moment a request was due, so a stall counts for every request that
should have been sent meanwhile.
"""

import gc
import random
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

DRAIN_SECONDS = 5
# Number of Poisson intervals, which are drawn before the clock starts and reused.
GAPS = 4096
# Responses are read at least after so many requests.
BATCH = 16


class Lane(Protocol):
    """One keep-alive connection."""

    socket: socket.socket
    due: deque[float]
    """When the requests in flight were due, by ``time.perf_counter``."""

    def send(self, due: float) -> None:
        """Send the next request."""

    def receive(self, latencies: list[float]) -> None:
        """Read what has arrived and append the latency of each response, in seconds."""


def percentile(values: list[float], share: float) -> float:
    """The value that ``share`` of the sorted ``values`` do not exceed."""
    return values[min(len(values) - 1, int(len(values) * share))]


def paced(lanes: Sequence[Lane], request: dict[str, Any]) -> dict[str, Any]:
    """``rate`` requests a second for ``seconds``, with Poisson arrivals, round-robin over the lanes."""
    by_socket = {lane.socket: lane for lane in lanes}
    sockets = list(by_socket)
    random.seed(request.get("seed", 1))
    gaps = [random.expovariate(request["rate"]) for _ in range(GAPS)]
    latencies: list[float] = []
    late: list[float] = []
    gc.disable()
    sent = 0
    due = time.perf_counter() + 0.05
    end = due + request["seconds"]
    drained = end + DRAIN_SECONDS
    while due < end or any(lane.due for lane in lanes):
        now = time.perf_counter()
        if now > drained:
            break
        while due <= now and due < end:
            lanes[sent % len(lanes)].send(due)
            late.append(now - due)
            sent += 1
            due += gaps[sent % GAPS]
            if sent % BATCH == 0:
                break
        wait = max(0.0, due - time.perf_counter()) if due < end else 0.05
        for ready in select.select(sockets, [], [], wait)[0]:
            by_socket[ready].receive(latencies)
    unanswered = sum(len(lane.due) for lane in lanes)
    latencies.sort()
    late.sort()
    return {
        "sent": sent,
        "unanswered": unanswered,
        "rate": sent / request["seconds"],
        "p50_ms": percentile(latencies, 0.5) * 1000,
        "p99_ms": percentile(latencies, 0.99) * 1000,
        "p999_ms": percentile(latencies, 0.999) * 1000,
        "sent_late_p99_ms": percentile(late, 0.99) * 1000,
        "cpu_share": time.process_time() / request["seconds"],
    }
