"""One flag for the whole plugin that wakes whatever waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from toolchain.plugins.provider.errors import CancelledError


class Cancellation:
    """Set once, by the engine's Cancel or by a signal."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def requested(self) -> bool:
        """Whether the user has cancelled."""
        return self._event.is_set()

    def request(self) -> None:
        """Wakes every waiter; further calls do nothing."""
        with self._lock:
            if self._event.is_set():
                return
            self._event.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def check(self) -> None:
        """Raises `CancelledError` if the user has cancelled."""
        if self._event.is_set():
            raise CancelledError("cancelled")

    def sleep(self, seconds: float) -> None:
        """Waits for so many seconds; raises `CancelledError` as soon as the user cancels."""
        if self._event.wait(seconds):
            raise CancelledError("cancelled")

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Calls ``callback`` on cancellation, at once if it was requested before."""
        with self._lock:
            requested = self._event.is_set()
            if not requested:
                self._callbacks.append(callback)
        if requested:
            callback()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)
