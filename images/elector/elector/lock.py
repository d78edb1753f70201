"""The lock of the book (chapter 9), with the version that its last step adds.

The names are the book's: ``simple_lock`` tries once, ``lock`` waits, ``unlock`` and ``renew`` are
for the holder only, ``hold`` is the loop that renews and calls ``handle_lock_lost``. The version is
the fencing token: it increases with each holder, so that a store can refuse the writes of a former
holder.
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
    """The lock's owner and version in the store."""

    owner: str
    version: int
    mark: str = ""
    """Changes with every change of the record, a renewal included."""
    expires_in: float | None = None
    """Seconds without a change after which it counts as expired; None if the store itself expires
    it."""
    raw: Any = field(default=None, compare=False)
    """The store's own form, for the backend."""


@dataclass(frozen=True)
class Seen:
    """The record, or None, at a revision of the store."""

    record: Record | None
    revision: int


@dataclass(frozen=True)
class Grant:
    """The result of an acquisition."""

    version: int
    seconds: float
    """Its duration, from the moment the request was sent."""
    revision: int
    """The store's revision of the acquisition."""


class Lock(abc.ABC):
    """A lock with an owner, a time to live and a version."""

    def __init__(
        self, key: str, owner: str, ttl: float, margin: float, clock: Clock = monotonic
    ) -> None:
        """Describe the lock; sends no request yet.

        :param key: name of the lock
        :param owner: name of this candidate
        :param ttl: seconds after which the store expires it without a renewal
        :param margin: seconds before that at which the holder considers it ended
        """
        self.key = key
        self.owner = owner
        self.ttl = ttl
        self.margin = margin
        self._clock = clock
        self._belief: Belief | None = None
        self._acquired_at = 0
        self._breaks: Callable[[], None] | None = None

    # the holder's view

    @property
    def version(self) -> int | None:
        """The fencing token while the lock is held."""
        belief = self._belief
        return belief.version if belief is not None and belief.valid_for() > 0 else None

    @property
    def until(self) -> float | None:
        """When the hold ends or has ended, by the clock; None if there was none."""
        belief = self._belief
        return None if belief is None else belief.until

    def held(self) -> tuple[int, float] | None:
        """Version and seconds left, consistent with each other; None if the lock is not held."""
        belief = self._belief
        left = 0.0 if belief is None else belief.valid_for()
        return None if belief is None or left <= 0 else (belief.version, left)

    def valid_for(self) -> float:
        """Seconds for which the lock is certainly held; 0 if it is not."""
        held = self.held()
        return 0.0 if held is None else held[1]

    # the book's functions

    def simple_lock(self, seen: Record | None = None) -> bool:
        """Try once.

        :param seen: a record that is expired or released and may be taken over
        :raises StoreError: the outcome is unknown; call ``abandon`` before a retry
        """
        if self.valid_for() > 0:
            return True
        # Before the first request: the store's TTL may start at any moment from here on.
        sent = self._clock()
        grant = self._acquire(seen)
        if grant is None:
            return False
        belief = Belief(grant.version, sent, grant.seconds - self.margin, self._clock)
        self._acquired_at = grant.revision
        self._belief = belief
        if belief.valid_for() > 0:
            return True
        # The response took longer than the TTL.
        self.abandon()
        return False

    def lock(self, timeout: float | None = None) -> bool:
        """Wait for the lock with a watch.

        :param timeout: seconds. Defaults to no timeout
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
        """Release the lock; False if another owner has it by then, which does not change.

        :raises StoreError: the outcome is unknown; the lock is no longer held here
        """
        belief = self._belief
        if belief is None:
            return False
        # It must not count as held during the release.
        belief.end()
        self._belief = None
        return self._release(belief.version)

    def renew(self, within: float | None = None) -> bool:
        """Keep the lock for another ``ttl`` seconds; False if it is lost.

        :param within: seconds for attempts at all of the store's endpoints
        :raises StoreError: the outcome is unknown; the lock is held for ``valid_for`` seconds
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

    # errors

    def lose(self) -> None:
        """End the hold here, without a request to the store."""
        belief = self._belief
        if belief is not None:
            belief.end()

    def abandon(self) -> None:
        """End the hold and release it in the store; if that fails, the TTL ends it."""
        belief = self._belief
        self._belief = None
        if belief is not None:
            belief.end()
        try:
            self._abandon(None if belief is None else belief.version)
        except Exception:  # noqa: BLE001 (the time to live ends it in any case)
            return

    def interrupt(self) -> None:
        """End the stream that ``observe`` reads, from another thread."""
        if self._breaks is not None:
            self._breaks()

    def _opened(self, breaks: Callable[[], None]) -> None:
        self._breaks = breaks

    def overtaken(self, seen: Seen) -> bool:
        """Whether the record shows that this holder has lost the lock."""
        belief = self._belief
        if belief is None or seen.revision <= self._acquired_at:
            return False
        return seen.record is None or seen.record.version != belief.version

    def claims(self, record: Record) -> bool:  # noqa: ARG002 (for subclasses)
        """Whether the record is of an attempt of this process that timed out.

        Then it can be taken over at once.
        """
        return False

    # the backend

    @abc.abstractmethod
    def observe(self) -> Iterator[Seen]:
        """The current record and each change of it, until the stream ends."""

    @abc.abstractmethod
    def _acquire(self, seen: Record | None) -> Grant | None: ...

    @abc.abstractmethod
    def _extend(self, version: int, within: float | None) -> float | None: ...

    @abc.abstractmethod
    def _release(self, version: int) -> bool: ...

    @abc.abstractmethod
    def _abandon(self, version: int | None) -> None: ...

    def close(self) -> None:
        """Release what is left in the store."""
        self.abandon()


def hold(
    lock: Lock,
    handle_lock_lost: Callable[[], None],
    stop: threading.Event,
    renew_seconds: float | None = None,
) -> None:
    """Renew the lock until ``stop``; call ``handle_lock_lost`` when it is lost, and return.

    :param renew_seconds: from one renewal to the next. Defaults to a third of the time to live, at
        most half of it: the book's ``ttl/2`` leaves time for one attempt
    """
    pause = lock.ttl / 3 if renew_seconds is None else renew_seconds
    while not stop.wait(min(pause, lock.valid_for())):
        try:
            if lock.renew():
                pause = lock.ttl / 3 if renew_seconds is None else renew_seconds
                continue
        except Exception:  # noqa: BLE001 (the holder must learn of the loss, whatever the reason)
            if lock.valid_for() > 0:
                pause = 0.1
                continue
        handle_lock_lost()
        return
