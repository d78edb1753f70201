"""The function's places: so many requests at a time, and so many that wait for one of them."""

import asyncio
import collections
import contextlib


class Places:
    """Given in the order in which they are asked for; used from one event loop."""

    def __init__(self, places: int, waiting: int) -> None:
        """Have ``places``, for which ``waiting`` may wait."""
        self._free = places
        self._most_waiting = waiting
        self._waiting: collections.deque[asyncio.Future[bool]] = collections.deque()
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(not one.done() for one in [*self._waiting])

    async def take(self, seconds: float) -> bool:
        """Get a place, after waiting for it if others may wait; False if there is none.

        :param seconds: longest to wait
        """
        if self._closed:
            return False
        if self._free:
            self._free -= 1
            return True
        if self.waiting >= self._most_waiting:
            return False
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            async with asyncio.timeout(seconds):
                return await mine
        except TimeoutError:
            return self._given_late(mine)
        except asyncio.CancelledError:
            if self._given_late(mine):
                self.give()
            raise

    def _given_late(self, mine: asyncio.Future[bool]) -> bool:
        """Whether it was given at the moment at which nobody waited for it any more."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(mine)
        return mine.done() and not mine.cancelled() and mine.result()

    def give(self) -> None:
        """Give one back; who has waited longest gets it."""
        while self._waiting:
            one = self._waiting.popleft()
            if not one.done():
                one.set_result(True)
                return
        self._free += 1

    def close(self) -> None:
        """Give none any more: who waits hears it now."""
        self._closed = True
        while self._waiting:
            one = self._waiting.popleft()
            if not one.done():
                one.set_result(False)
