"""The one place where the live tests and the bench wait."""

import time
from collections.abc import Callable
from typing import TypeVar

import urllib3.exceptions
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ResourceNotFoundError

T = TypeVar("T")

# What a test names is enough on a machine of its own. A slow or busy one needs several times as long, and
# a condition that comes costs nothing.
_BUSY = 5

# Responses of an overloaded API server, or of a proxy before it.
_PASSING = (0, 429, 500, 502, 503, 504)


def patience(seconds: float) -> float:
    """Seconds after which something that should take so many has failed, on any machine."""
    return seconds * _BUSY


def eventually(
    condition: Callable[[], T],
    timeout: float,
    describe: str | Callable[[], str],
    interval: float = 0.2,
) -> T:
    """Return the first true result of ``condition``.

    An AssertionError means not yet, and so does an API server that is temporarily unavailable.

    :param timeout: seconds that are enough where nothing else runs; see ``patience``
    :param describe: what was waited for, or a function that also describes the current state
    """
    deadline = time.monotonic() + patience(timeout)
    while True:
        reason = ""
        try:
            result = condition()
            if result:
                return result
        except AssertionError as error:
            reason = f": {error}"
        except ApiException as error:
            if error.status not in _PASSING:
                raise
            reason = f": {error.status} {error.reason}"
        except (ResourceNotFoundError, urllib3.exceptions.HTTPError) as error:
            reason = f": {error!r}"
        if time.monotonic() > deadline:
            what = describe if isinstance(describe, str) else describe()
            raise AssertionError(f"not within {patience(timeout):g} s: {what}{reason}")
        time.sleep(interval)
