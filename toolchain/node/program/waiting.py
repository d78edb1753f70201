"""Waits for conditions by polling."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


class StoppedError(Exception):
    """The node is stopping, which ends the wait."""


class LateError(Exception):
    """The wait timed out; the message has the condition and the last error."""


def until(
    what: str,
    check: Callable[[], Value | None],
    stop: threading.Event,
    timeout: float,
    period: float = 0.2,
) -> Value:
    """The first result of `check` that is neither None nor False, polled every `period` seconds.

    OSError and LookupError, which are usual for a program that is still starting, are retried.
    Raises LateError after `timeout` seconds and StoppedError when the node is stopping.
    """
    end = time.monotonic() + timeout
    last: Exception | None = None
    while True:
        try:
            value = check()
            if value is not None and value is not False:
                return value
        except (OSError, LookupError) as error:
            last = error
        if time.monotonic() > end:
            raise LateError(
                f"{what}: timed out after {timeout:.0f} s" + (f" ({last})" if last else "")
            )
        if stop.wait(period):
            raise StoppedError(what)
