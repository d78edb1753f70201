"""How a lock stands, followed by a stream in a thread of its own."""

import logging
import threading
from dataclasses import dataclass
from types import TracebackType

from elector.belief import Clock, monotonic
from elector.errors import RefusedError, StoreError
from elector.lock import Lock, Record, Seen

_log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
# A stream that lasted so long, or half a TTL, was a good one: it may have ended by its silence.
_GOOD_SECONDS = 5.0


@dataclass(frozen=True)
class Vacancy:
    """That nobody holds the lock."""

    record: Record | None
    """What may be taken over: given up by time, or empty."""
    changes: int
    """Changes seen until then."""


class Observer:
    """Keeps the last record, and when it will count as given up."""

    def __init__(self, lock: Lock, clock: Clock = monotonic) -> None:
        self._lock = lock
        self._clock = clock
        self.changed = threading.Condition()
        """Told of each change."""
        self.seen: Seen | None = None
        """The last news; None before the first."""
        self._expires_at: float | None = None
        self._changes = 0
        self._out_of_touch_since: float | None = clock()
        self._complained = False
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
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no longer."""
        self._stopped.set()
        self._lock.interrupt()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def in_touch(self) -> bool:
        """Whether the stream stands."""
        return self.seen is not None and self._out_of_touch_since is None

    @property
    def changes(self) -> int:
        """Changes seen so far."""
        return self._changes

    def record(self) -> Record | None:
        """Who holds the lock; None if nobody does, or if that is not known for too long."""
        with self.changed:
            if self.seen is None or self._expired():
                return None
            since = self._out_of_touch_since
            if since is not None and self._clock() - since > self._lock.ttl:
                return None
            return self.seen.record

    def vacancy(self, timeout: float | None = None) -> Vacancy | None:
        """Wait until nobody holds the lock; None after ``timeout`` seconds, and now and then."""
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
        """Wait for news that are newer than the vacancy; whether there are."""
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
                    if self._out_of_touch_since is None or not self._complained:
                        _log.warning("out of touch with the store: %s", error)
                        self._complained = True
                    if self._out_of_touch_since is None:
                        self._out_of_touch_since = self._clock()
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
            if self._out_of_touch_since is not None:
                self._out_of_touch_since = None
                _log.info("in touch with the store")
            if known:
                # Told again after a broken stream: its time goes on.
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
