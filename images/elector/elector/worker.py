"""Whether the application, for which the elector leads, still asks it anything.

An application that has ended, or that hangs, does not do what a leader has to do; its elector alone
would go on leading for it. Once somebody has seen it silent for too long it counts as gone, however
soon it asks again: what it led is given up first, and then it takes part anew.
"""

import math
import threading

from elector.belief import Clock, monotonic


class Worker:
    """When the application asked last."""

    def __init__(self, seconds: float, clock: Clock = monotonic) -> None:
        """It counts as gone until it asks.

        :param seconds: without a question after which it counts as gone
        """
        self._seconds = seconds
        self._clock = clock
        self._asked_at = -math.inf
        self._gone = True
        self._mutex = threading.Lock()

    def asked(self) -> bool:
        """Note that it asks now; whether it counts as gone, until ``back``."""
        with self._mutex:
            now = self._clock()
            self._look(now)
            self._asked_at = now
            return self._gone

    def left(self) -> float:
        """Seconds until it counts as gone if it asks nothing; 0 when it does."""
        with self._mutex:
            now = self._clock()
            self._look(now)
            return 0.0 if self._gone else self._asked_at + self._seconds - now

    def back(self) -> bool:
        """Count it as there again if it has asked lately; whether it is there."""
        with self._mutex:
            self._gone = self._clock() >= self._asked_at + self._seconds
            return not self._gone

    def _look(self, now: float) -> None:
        self._gone = self._gone or now >= self._asked_at + self._seconds
