"""A store of one lock in memory, with faults, for the code above the backends."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from elector.belief import Clock, monotonic
from elector.errors import StoreError
from elector.lock import Grant, Lock, Record, Seen


@dataclass
class MemoryStore:
    """Holds one record. As with a Lease, each candidate itself detects the expiry."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    owner: str = ""
    version: int = 0
    revision: int = 1
    down: bool = False
    calls: list[str] = field(default_factory=list)

    def change(self, owner: str, version: int) -> None:
        with self.changed:
            self.owner, self.version = owner, version
            self.revision += 1
            self.changed.notify_all()

    def called(self, what: str) -> None:
        if self.down:
            raise StoreError("the store is down")
        self.calls.append(what)


class MemoryLock(Lock):
    """A lock in a MemoryStore."""

    def __init__(
        self, store: MemoryStore, owner: str, ttl: float, margin: float, clock: Clock = monotonic
    ) -> None:
        super().__init__("memory", owner, ttl, margin, clock)
        self.store = store
        self._interrupted = False

    def _acquire(self, seen: Record | None) -> Grant | None:
        self.store.called("acquire")
        with self.store.changed:
            if self.store.owner and (seen is None or seen.mark != self._mark()):
                return None
            self.store.change(self.owner, self.store.version + 1)
            return Grant(self.store.version, self.ttl, self.store.revision)

    def _extend(self, version: int, within: float | None) -> float | None:
        assert within is None or within > 0
        self.store.called("extend")
        with self.store.changed:
            if (self.store.owner, self.store.version) != (self.owner, version):
                return None
            self.store.change(self.owner, version)
            return self.ttl

    def _release(self, version: int) -> bool:
        self.store.called("release")
        with self.store.changed:
            if (self.store.owner, self.store.version) != (self.owner, version):
                return False
            self.store.change("", version)
            return True

    def _abandon(self, version: int | None) -> None:
        if version is not None:
            self._release(version)

    def observe(self) -> Iterator[Seen]:
        told = 0
        while True:
            with self.store.changed:
                if self.store.revision == told and not self._interrupted:
                    self.store.changed.wait(0.05)
                if self.store.down:
                    raise StoreError("the store is down")
                if self._interrupted:
                    return
                news = self.store.revision != told
                told = self.store.revision
                seen = Seen(
                    Record(self.store.owner, self.store.version, self._mark(), self.ttl), told
                )
            if news:
                yield seen

    def interrupt(self) -> None:
        self._interrupted = True

    def _mark(self) -> str:
        return str(self.store.revision)
