"""Waiting for threads and processes."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def soon(condition: Callable[[], Found], seconds: float) -> Found:
    """The first true result of a condition.

    :param seconds: after which it fails
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.005)
    return found
