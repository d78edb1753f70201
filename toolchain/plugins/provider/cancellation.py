"""The plugin's cancellation flag, which wakes all waits."""

from __future__ import annotations

import threading

from toolchain.plugins.provider.errors import CancelledError


class Cancellation:
    """Set by the engine's Cancel or by a signal."""

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
        """Sleeps; raises `CancelledError` as soon as the user cancels."""
        if self._event.wait(seconds):
            raise CancelledError("cancelled")
