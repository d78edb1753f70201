"""One-time codes: creation and verification."""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

_EARLIER = 32
_SKEW_SECONDS = 5.0
"""Maximum difference between the clocks of event sources."""


@dataclass(frozen=True)
class Code:
    """A user's code."""

    key: str
    """Idempotency key of the request."""
    code: str
    ends: float
    """Unix seconds."""
    wrong: int = 0
    used: bool = False
    event: float = 0.0
    """Time of the request, in Unix seconds."""
    earlier: Sequence[str] = ()
    """Keys of the user's former codes, the latest first."""


def digits(count: int) -> str:
    """Random digits, uniformly distributed, from the operating system's source."""
    return f"{secrets.randbelow(10**count):0{count}d}"


def made(
    now: Code | None, key: str, event: float, moment: float, seconds: float, count: int
) -> Code | None:
    """The code for a key; None if it is expired, used or replaced.

    A request may be redelivered, also after the user's next request. Its key then still means the
    code that was sent for it, or none. An event that is older than a code's validity gets none, so
    no key need be stored for longer.

    :param event: time of the request, in Unix seconds; the same each time for a key
    :param seconds: validity of a code
    """
    if now is not None and now.key == key:
        return now if moment < now.ends and not now.used else None
    if moment >= event + seconds:
        return None
    # A clock that is ahead must not prevent the code of the user's next event.
    event = min(event, moment)
    if now is not None and (key in now.earlier or event < now.event - _SKEW_SECONDS):
        return None
    earlier = () if now is None else (now.key, *now.earlier)[:_EARLIER]
    return Code(key, digits(count), moment + seconds, event=event, earlier=earlier)


def judged(now: Code | None, code: str, moment: float, attempts: int) -> tuple[str, Code | None]:
    """The result of a check, and the code to store afterwards (None: unchanged)."""
    if now is None or now.used:
        return "none", None
    if moment >= now.ends:
        return "expired", None
    if now.wrong >= attempts:
        return "too many attempts", None
    if hmac.compare_digest(now.code.encode(), code.encode()):
        return "right", replace(now, used=True)
    return "wrong", replace(now, wrong=now.wrong + 1)
