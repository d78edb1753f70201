"""One flag for the whole plugin that wakes whatever waits."""

from __future__ import annotations

import threading

from toolchain.plugins.provider.errors import CancelledError


class Cancellation:
    """Set once, by the engine's Cancel or by a signal."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def request(self) -> None:
        """Wakes every waiter; further calls do nothing."""
        self._event.set()

    def check(self) -> None:
        """Raises `CancelledError` if the user has cancelled."""
        if self._event.is_set():
            raise CancelledError("cancelled")

    def sleep(self, seconds: float) -> None:
        """Waits for so many seconds; raises `CancelledError` as soon as the user cancels."""
        if self._event.wait(seconds):
            raise CancelledError("cancelled")
