"""What a holder may believe, which always ends before what the store has granted.

The store starts counting when a request reaches it, the holder when it *sent* that request, so the
holder is early even with a clock that is exact. The margin is for clocks that are not: two clocks
that differ in rate by less than margin / ttl keep the order. All times are CLOCK_MONOTONIC, which
counts on while the process is stopped (but not while the whole machine is suspended).
"""

import threading
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds that never go back."""

monotonic: Clock = time.monotonic


class Belief:
    """That one holds a lock, until a moment. Once somebody has seen it ended, it stays ended."""

    def __init__(self, version: int, sent: float, seconds: float, clock: Clock = monotonic) -> None:
        """Believe from now on, if it is not too late already.

        :param version: the fencing token
        :param sent: when the request was sent that got the lock
        :param seconds: for how long the store granted it, less the margin
        """
        self.version = version
        self._until = sent + seconds
        self._clock = clock
        self._ended = False
        self._mutex = threading.Lock()

    @property
    def until(self) -> float:
        """When it ends."""
        return self._until

    def valid_for(self) -> float:
        """Seconds that are left; 0 when it has ended. The clock is read before anything else."""
        with self._mutex:
            left = self._until - self._clock()
            if self._ended or left <= 0:
                self._ended = True
                return 0.0
            return left

    def extend(self, sent: float, seconds: float) -> bool:
        """Take in a renewal; False, and nothing is changed, if it came too late.

        :param sent: when the renewal was sent, not when it was answered
        """
        with self._mutex:
            if self._ended or self._clock() >= self._until:
                self._ended = True
                return False
            # An answer that overtook another one must not shorten it.
            self._until = max(self._until, sent + seconds)
            return True

    def end(self) -> bool:
        """Stop believing; whether it was believed until now."""
        with self._mutex:
            believed = not self._ended and self._clock() < self._until
            self._ended = True
            return believed
