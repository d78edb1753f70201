"""Counts the requests of a splitter's arms, from the lines that nginx sends as datagrams.

`arms <http address> <http port> <syslog port>`: takes syslog datagrams on 127.0.0.1, each with
``arm=... how=... status=... seconds=...``, and serves /metrics. nginx never waits for it: datagrams
that it cannot receive are lost, and the requests are served all the same.
"""

import re
import socket
import sys
import threading
from collections import Counter

from companions import web, worker
from companions.metrics import CONTENT_TYPE, Family, Histogram, Sample, exposition

# Seconds; from the latency of a cache to a usual timeout.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LINE = re.compile(
    rb"arm=(?P<arm>[a-z]{1,32}) how=(?P<how>[a-z]{1,32}) "
    rb"status=(?P<status>[0-9]{3}) seconds=(?P<seconds>[0-9]{1,9}(?:\.[0-9]{1,6})?)(?![0-9.])"
)
LONGEST = 2048
# Bytes of the receive buffer; the kernel may give less.
BACKLOG = 4 << 20


class Arms:
    """Counters and latencies of each arm."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._seconds: dict[str, Histogram] = {}
        self._unread = 0

    def take(self, datagram: bytes) -> None:
        """Count one line; a datagram that is not one is counted as unreadable."""
        found = LINE.search(datagram)
        with self._lock:
            if found is None:
                self._unread += 1
                return
            arm, how, status, seconds = (part.decode() for part in found.groups())
            self._requests[arm, how, status] += 1
            if arm not in self._seconds:
                self._seconds[arm] = Histogram(BOUNDS)
            self._seconds[arm].observe(float(seconds))

    def families(self) -> list[Family]:
        """The metrics for a scrape."""
        with self._lock:
            return [
                Family(
                    "splitter_requests_total",
                    "counter",
                    "Requests by arm, by how the arm was chosen and by status.",
                    [
                        Sample(count, {"arm": arm, "how": how, "status": status})
                        for (arm, how, status), count in sorted(self._requests.items())
                    ],
                ),
                Family(
                    "splitter_request_seconds",
                    "histogram",
                    "From the first byte of a request to the last of its response.",
                    [
                        sample
                        for arm, histogram in sorted(self._seconds.items())
                        for sample in histogram.samples({"arm": arm})
                    ],
                ),
                Family(
                    "splitter_unreadable_lines_total",
                    "counter",
                    "Datagrams that are not a line of the splitter.",
                    [Sample(self._unread)],
                ),
            ]


def listen(port: int, arms: Arms) -> None:
    """Receive datagrams in a thread; if it fails, the program exits."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BACKLOG)
    receiver.bind(("127.0.0.1", port))

    def loop() -> None:
        while True:
            arms.take(receiver.recv(LONGEST))

    worker.start(loop, "datagrams")


def main() -> None:
    """Serve until SIGTERM."""
    address, port, syslog = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    arms = Arms()
    listen(syslog, arms)
    web.Server(
        address,
        port,
        {
            "/metrics": lambda _: web.Answer(exposition(arms.families()), CONTENT_TYPE),
            "/healthz": lambda _: web.Answer("ok\n"),
        },
    ).run()


if __name__ == "__main__":
    main()
