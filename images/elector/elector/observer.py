"""Watches a lock in a thread of its own."""

import logging
import threading
from dataclasses import dataclass
from types import TracebackType

from elector.belief import Clock, monotonic
from elector.errors import RefusedError, StoreError
from elector.lock import Lock, Record, Seen

_log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
# A stream that lasted so long, or half a TTL, was healthy: it may have ended by its timeout.
_GOOD_SECONDS = 5.0


@dataclass(frozen=True)
class Vacancy:
    """The lock has no holder."""

    record: Record | None
    """The record that may be taken over: expired, released, or None."""
    changes: int
    """Number of changes seen until then."""


class Observer:
    """Keeps the last record, and when it expires."""

    def __init__(self, lock: Lock, clock: Clock = monotonic) -> None:
        self._lock = lock
        self._clock = clock
        self.changed = threading.Condition()
        """Notified of each change."""
        self.seen: Seen | None = None
        """The last record; None before the first."""
        self._expires_at: float | None = None
        self._changes = 0
        self._disconnected_since: float | None = clock()
        self._logged = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="observer", daemon=True)

    def __enter__(self) -> "Observer":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the watch."""
        self._stopped.set()
        self._lock.interrupt()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def connected(self) -> bool:
        """Whether the stream is open."""
        return self.seen is not None and self._disconnected_since is None

    @property
    def changes(self) -> int:
        """Number of changes seen."""
        return self._changes

    def record(self) -> Record | None:
        """The record of the holder; None without one, or after a TTL without a connection."""
        with self.changed:
            if self.seen is None or self._expired():
                return None
            since = self._disconnected_since
            if since is not None and self._clock() - since > self._lock.ttl:
                return None
            return self.seen.record

    def vacancy(self, timeout: float | None = None) -> Vacancy | None:
        """Wait until the lock has no holder; None after ``timeout``, or earlier (after 1 s)."""
        with self.changed:
            found = self._vacancy()
            if found is not None:
                return found
            waits = [1.0] if timeout is None else [1.0, timeout]
            if self._expires_at is not None:
                waits.append(self._expires_at - self._clock())
            self.changed.wait(max(0.0, min(waits)))
            return self._vacancy()

    def after(self, vacancy: Vacancy, timeout: float) -> bool:
        """Wait for a change after the vacancy; returns whether there is one."""
        with self.changed:
            return self.changed.wait_for(lambda: self._changes != vacancy.changes, timeout)

    def _vacancy(self) -> Vacancy | None:
        if self.seen is None:
            return None
        record = self.seen.record
        if record is None or not record.owner or self._expired() or self._lock.claims(record):
            return Vacancy(record, self._changes)
        return None

    def _expired(self) -> bool:
        return self._expires_at is not None and self._clock() >= self._expires_at

    def _follow(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            began = self._clock()
            try:
                for seen in self._lock.observe():
                    if self._stopped.is_set():
                        return
                    self._take(seen)
            except (StoreError, RefusedError) as error:
                if self._stopped.is_set():
                    return
                with self.changed:
                    if self._disconnected_since is None or not self._logged:
                        _log.warning("disconnected from the store: %s", error)
                        self._logged = True
                    if self._disconnected_since is None:
                        self._disconnected_since = self._clock()
                    self.changed.notify_all()
            if self._clock() - began > min(_GOOD_SECONDS, self._lock.ttl / 2):
                pause = _FIRST_PAUSE
            else:
                pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)

    def _take(self, seen: Seen) -> None:
        with self.changed:
            before = self.seen.record if self.seen is not None else None
            known = self.seen is not None and before == seen.record
            self.seen = seen
            if self._disconnected_since is not None:
                self._disconnected_since = None
                _log.info("connected to the store")
            if known:
                # Read again after a reconnect: its expiry does not change.
                self.changed.notify_all()
                return
            self._changes += 1
            record = seen.record
            self._expires_at = (
                None
                if record is None or record.expires_in is None or not record.owner
                else self._clock() + record.expires_in
            )
            self.changed.notify_all()
