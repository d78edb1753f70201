"""One-time codes: how one is made, and what a check of it comes to."""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

_EARLIER = 32
_SKEW_SECONDS = 5.0
"""By which the clocks of those that say when something was asked may differ."""


@dataclass(frozen=True)
class Code:
    """A user's code."""

    key: str
    """What it was made for."""
    code: str
    ends: float
    """Unix seconds."""
    wrong: int = 0
    used: bool = False
    event: float = 0.0
    """When what it was made for was asked, in Unix seconds."""
    earlier: Sequence[str] = ()
    """Keys of the user's codes before it, the last ones first."""


def digits(count: int) -> str:
    """Random digits from the operating system's source, each as likely as another."""
    return f"{secrets.randbelow(10**count):0{count}d}"


def made(
    now: Code | None, key: str, event: float, moment: float, seconds: float, count: int
) -> Code | None:
    """The code for a key; None where there is none (any more), and must not be another one.

    What asks for a code may be delivered again, also after the user has asked for the next one.
    The key then still means the code that was sent for it, or none. An event that is older than a
    code may last gets none, so nothing need be remembered for longer.

    :param event: when it was asked, in Unix seconds; the same each time for a key
    :param seconds: how long a code lasts
    """
    if now is not None and now.key == key:
        return now if moment < now.ends and not now.used else None
    if moment >= event + seconds:
        return None
    # A clock that is ahead must not keep the user's next event from its code.
    event = min(event, moment)
    if now is not None and (key in now.earlier or event < now.event - _SKEW_SECONDS):
        return None
    earlier = () if now is None else (now.key, *now.earlier)[:_EARLIER]
    return Code(key, digits(count), moment + seconds, event=event, earlier=earlier)


def judged(now: Code | None, code: str, moment: float, attempts: int) -> tuple[str, Code | None]:
    """What a check comes to, and what is kept afterwards (None: as it was)."""
    if now is None or now.used:
        return "none", None
    if moment >= now.ends:
        return "expired", None
    if now.wrong >= attempts:
        return "too many attempts", None
    if hmac.compare_digest(now.code.encode(), code.encode()):
        return "right", replace(now, used=True)
    return "wrong", replace(now, wrong=now.wrong + 1)
