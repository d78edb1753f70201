"""The lock of the book (chapter 9), with what its last step adds: a version.

The names are the book's: ``simple_lock`` tries once, ``lock`` waits, ``unlock`` and ``renew`` work
for the holder only, ``hold`` is the loop that renews and calls ``handle_lock_lost``. The version is
the fencing token: it grows from holder to holder, and whoever is written to can tell an old holder
from the current one by it.
"""

import abc
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from elector.belief import Belief, Clock, monotonic
from elector.errors import StoreError


@dataclass(frozen=True)
class Record:
    """Who holds the lock, as the store has it."""

    owner: str
    version: int
    mark: str = ""
    """Changes with every change of the record, a renewal included."""
    expires_in: float | None = None
    """Seconds without a change after which it counts as given up; None where the store itself ends
    it."""
    raw: Any = field(default=None, compare=False)
    """The store's own form, for the backend."""


@dataclass(frozen=True)
class Seen:
    """A record, or none, at a revision of the store."""

    record: Record | None
    revision: int


@dataclass(frozen=True)
class Grant:
    """What an acquisition got."""

    version: int
    seconds: float
    """For how long, counted from when the request was sent."""
    revision: int
    """The store's revision from which on it is so."""


class Lock(abc.ABC):
    """A lock with an owner, a time to live and a version."""

    def __init__(
        self, key: str, owner: str, ttl: float, margin: float, clock: Clock = monotonic
    ) -> None:
        """Describe the lock; nothing is asked of the store yet.

        :param key: name of the lock
        :param owner: who tries to hold it
        :param ttl: seconds for which the store grants it without a renewal
        :param margin: seconds before that at which the holder stops believing
        """
        self.key = key
        self.owner = owner
        self.ttl = ttl
        self.margin = margin
        self._clock = clock
        self._belief: Belief | None = None
        self._acquired_at = 0
        self._breaks: Callable[[], None] | None = None

    # what a holder may believe

    @property
    def version(self) -> int | None:
        """The fencing token, as long as the lock is held."""
        belief = self._belief
        return belief.version if belief is not None and belief.valid_for() > 0 else None

    @property
    def until(self) -> float | None:
        """When the belief ends or ended; None without one."""
        belief = self._belief
        return None if belief is None else belief.until

    def held(self) -> tuple[int, float] | None:
        """Version and seconds left, both of the same belief; None when it has ended."""
        belief = self._belief
        left = 0.0 if belief is None else belief.valid_for()
        return None if belief is None or left <= 0 else (belief.version, left)

    def valid_for(self) -> float:
        """Seconds for which the lock is held for certain; 0 when it is not."""
        held = self.held()
        return 0.0 if held is None else held[1]

    # the book's functions

    def simple_lock(self, seen: Record | None = None) -> bool:
        """Try once.

        :param seen: a record that was seen to be given up and may be taken over
        :raises StoreError: it is not known whether it worked; ``abandon`` before trying again
        """
        if self.valid_for() > 0:
            return True
        # Before the first request: the store may start counting at any moment from here on.
        sent = self._clock()
        grant = self._acquire(seen)
        if grant is None:
            return False
        belief = Belief(grant.version, sent, grant.seconds - self.margin, self._clock)
        self._acquired_at = grant.revision
        self._belief = belief
        if belief.valid_for() > 0:
            return True
        # The answer took longer than the lock lasts.
        self.abandon()
        return False

    def lock(self, timeout: float | None = None) -> bool:
        """Wait for the lock, told by the store when it is free.

        :param timeout: seconds to wait at most; by default without an end
        :returns: whether it is held
        """
        from elector.observer import Observer  # noqa: PLC0415 (which needs this module)

        deadline = None if timeout is None else self._clock() + timeout
        with Observer(self, self._clock) as observer:
            while True:
                left = None if deadline is None else deadline - self._clock()
                if left is not None and left <= 0:
                    return False
                vacancy = observer.vacancy(left)
                if vacancy is None:
                    continue
                try:
                    if self.simple_lock(vacancy.record):
                        return True
                except StoreError:
                    self.abandon()
                observer.after(vacancy, 0.2)

    def unlock(self) -> bool:
        """Give the lock up; False if it was another's by then, which stays as it is.

        :raises StoreError: it is not known whether it worked; it is not believed in any more
        """
        belief = self._belief
        if belief is None:
            return False
        # Nobody may believe in it while the store is told.
        belief.end()
        self._belief = None
        return self._release(belief.version)

    def renew(self, within: float | None = None) -> bool:
        """Keep the lock for another ``ttl`` seconds; False if it is lost.

        :param within: seconds for tries at all of the store's endpoints
        :raises StoreError: it is not known; it is held for as long as ``valid_for`` says
        """
        belief = self._belief
        if belief is None or belief.valid_for() <= 0:
            return False
        sent = self._clock()
        seconds = self._extend(belief.version, within)
        if seconds is None:
            belief.end()
            return False
        return belief.extend(sent, seconds - self.margin)

    # when something is wrong

    def lose(self) -> None:
        """Stop believing, without a word to the store."""
        belief = self._belief
        if belief is not None:
            belief.end()

    def abandon(self) -> None:
        """Stop believing, and give up whatever the store may have; what fails is left to the TTL."""
        belief = self._belief
        self._belief = None
        if belief is not None:
            belief.end()
        try:
            self._abandon(None if belief is None else belief.version)
        except Exception:  # noqa: BLE001 (the time to live does it in any case)
            return

    def interrupt(self) -> None:
        """End the stream that ``observe`` reads, from another thread."""
        if self._breaks is not None:
            self._breaks()

    def _opened(self, breaks: Callable[[], None]) -> None:
        self._breaks = breaks

    def overtaken(self, seen: Seen) -> bool:
        """Whether what was seen means that the lock is not this holder's any more."""
        belief = self._belief
        if belief is None or seen.revision <= self._acquired_at:
            return False
        return seen.record is None or seen.record.version != belief.version

    def claims(self, record: Record) -> bool:  # noqa: ARG002 (most stores need no such thing)
        """Whether the record is of a try of this process that was given up without an answer.

        It may then be taken over at once, for nobody believes in it.
        """
        return False

    # what a store has to be able to do

    @abc.abstractmethod
    def observe(self) -> Iterator[Seen]:
        """How the lock stands, and each change of it, for ever or until the stream breaks."""

    @abc.abstractmethod
    def _acquire(self, seen: Record | None) -> Grant | None: ...

    @abc.abstractmethod
    def _extend(self, version: int, within: float | None) -> float | None: ...

    @abc.abstractmethod
    def _release(self, version: int) -> bool: ...

    @abc.abstractmethod
    def _abandon(self, version: int | None) -> None: ...

    def close(self) -> None:
        """Give up what is left at the store."""
        self.abandon()


def hold(
    lock: Lock,
    handle_lock_lost: Callable[[], None],
    stop: threading.Event,
    renew_seconds: float | None = None,
) -> None:
    """Renew the lock until ``stop``; call ``handle_lock_lost`` when it is lost, and end.

    :param renew_seconds: from one renewal to the next. Defaults to a third of the time to live, at
        most half of it: the book's ``ttl/2`` leaves one try
    """
    pause = lock.ttl / 3 if renew_seconds is None else renew_seconds
    while not stop.wait(min(pause, lock.valid_for())):
        try:
            if lock.renew():
                pause = lock.ttl / 3 if renew_seconds is None else renew_seconds
                continue
        except Exception:  # noqa: BLE001 (whoever holds it must hear of the end, whatever the reason)
            if lock.valid_for() > 0:
                pause = 0.1
                continue
        handle_lock_lost()
        return
