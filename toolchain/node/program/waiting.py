"""Waiting for something to become true, the one way it is done in the node."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


class StoppedError(Exception):
    """The node is being stopped, so nothing is waited for any more."""


class LateError(Exception):
    """What was waited for did not come in time; the message says what it was and the last error."""


def until(
    what: str,
    check: Callable[[], Value | None],
    stop: threading.Event,
    timeout: float,
    period: float = 0.2,
) -> Value:
    """The first value of `check` that is neither None nor False, asked every `period` seconds.

    Errors of the kinds a program that is still starting gives (OSError, LookupError) count as not yet.
    Raises LateError after `timeout` seconds and StoppedError when the node is being stopped.
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
            raise LateError(f"{what}: not within {timeout:.0f} s" + (f" ({last})" if last else ""))
        if stop.wait(period):
            raise StoppedError(what)
