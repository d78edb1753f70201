"""The holder's own view of the lock, which always ends before the store's.

The store's TTL starts when a request arrives, the holder's when the request was *sent*, so that the
holder's ends first if both clocks are exact. The margin allows for clock drift: the order is kept
while the rates of two clocks differ by less than margin / ttl. All times are CLOCK_MONOTONIC, which
continues while the process is stopped (but not while the machine is suspended).
"""

import threading
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""A monotonic clock in seconds."""

monotonic: Clock = time.monotonic


class Belief:
    """That this process holds a lock until some time. Once seen ended, it stays ended."""

    def __init__(self, version: int, sent: float, seconds: float, clock: Clock = monotonic) -> None:
        """Start it, unless it has ended already.

        :param version: the fencing token
        :param sent: when the request that acquired the lock was sent
        :param seconds: for how long the store granted it, less the margin
        """
        self.version = version
        self._until = sent + seconds
        self._clock = clock
        self._ended = False
        self._mutex = threading.Lock()

    @property
    def until(self) -> float:
        """End, by the clock."""
        return self._until

    def valid_for(self) -> float:
        """Seconds left; 0 when it has ended."""
        with self._mutex:
            left = self._until - self._clock()
            if self._ended or left <= 0:
                self._ended = True
                return 0.0
            return left

    def extend(self, sent: float, seconds: float) -> bool:
        """Apply a renewal; False, and no change, if it came too late.

        :param sent: when the renewal was sent, not when its response arrived
        """
        with self._mutex:
            if self._ended or self._clock() >= self._until:
                self._ended = True
                return False
            # Responses may arrive out of order; an older one must not shorten it.
            self._until = max(self._until, sent + seconds)
            return True

    def end(self) -> bool:
        """End it; returns whether it was valid until now."""
        with self._mutex:
            believed = not self._ended and self._clock() < self._until
            self._ended = True
            return believed
