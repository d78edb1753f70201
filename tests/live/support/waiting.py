"""The one place where the live tests and the bench wait."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    condition: Callable[[], T],
    timeout: float,
    describe: str | Callable[[], str],
    interval: float = 0.2,
) -> T:
    """Return the first true result of ``condition``; an AssertionError counts as not yet.

    :param timeout: seconds after which it fails, naming what was waited for
    :param describe: what was waited for, or a function that also says how things stand
    """
    deadline = time.monotonic() + timeout
    while True:
        reason = ""
        try:
            result = condition()
            if result:
                return result
        except AssertionError as error:
            reason = f": {error}"
        if time.monotonic() > deadline:
            what = describe if isinstance(describe, str) else describe()
            raise AssertionError(f"not within {timeout:g} s: {what}{reason}")
        time.sleep(interval)
