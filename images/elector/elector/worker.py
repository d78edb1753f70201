"""Whether the application, for which the elector leads, is alive: it still sends requests.

An application that has exited or hangs does not do a leader's work, but its elector would continue
to lead. Once it has been silent for too long it counts as failed, however soon it sends the next
request: leadership is given up first, and then the elector campaigns again.
"""

import math
import threading

from elector.belief import Clock, monotonic


class Worker:
    """Time of the application's last request."""

    def __init__(self, seconds: float, clock: Clock = monotonic) -> None:
        """It counts as failed until its first request.

        :param seconds: without a request after which it counts as failed
        """
        self._seconds = seconds
        self._clock = clock
        self._polled_at = -math.inf
        self._gone = True
        self._mutex = threading.Lock()

    def polled(self) -> bool:
        """Record a request; returns whether it still counts as failed, which ``back`` ends."""
        with self._mutex:
            now = self._clock()
            self._update(now)
            self._polled_at = now
            return self._gone

    def left(self) -> float:
        """Seconds until it counts as failed without a request; 0 if it does."""
        with self._mutex:
            now = self._clock()
            self._update(now)
            return 0.0 if self._gone else self._polled_at + self._seconds - now

    def back(self) -> bool:
        """Count it as alive if its last request is recent; returns whether it is."""
        with self._mutex:
            self._gone = self._clock() >= self._polled_at + self._seconds
            return not self._gone

    def _update(self, now: float) -> None:
        self._gone = self._gone or now >= self._polled_at + self._seconds
