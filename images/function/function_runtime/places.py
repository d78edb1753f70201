"""The function's slots, which limit its concurrency, and the queue for them."""

import asyncio
import collections
import contextlib


class Places:
    """A fair semaphore with a limited queue; used from one event loop."""

    def __init__(self, places: int, waiting: int) -> None:
        """Create ``places`` slots, and a queue of at most ``waiting``."""
        self._free = places
        self._most_waiting = waiting
        self._waiting: collections.deque[asyncio.Future[bool]] = collections.deque()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Length of the queue."""
        return sum(not one.done() for one in [*self._waiting])

    async def take(self, seconds: float) -> bool:
        """Acquire a slot; False if the queue is full, after the timeout, or when closed.

        :param seconds: timeout
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
        """Whether the slot was assigned at the moment of the timeout or cancellation."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(mine)
        return mine.done() and not mine.cancelled() and mine.result()

    def give(self) -> None:
        """Release a slot, which goes to the head of the queue."""
        while self._waiting:
            one = self._waiting.popleft()
            if not one.done():
                one.set_result(True)
                return
        self._free += 1

    def close(self) -> None:
        """Assign no more slots; ``take`` returns False, also for the queue."""
        self._closed = True
        while self._waiting:
            one = self._waiting.popleft()
            if not one.done():
                one.set_result(False)
