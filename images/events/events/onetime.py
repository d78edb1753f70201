"""One-time codes: how one is made, and what a check of it comes to."""

import hmac
import secrets
from dataclasses import dataclass


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


def digits(count: int) -> str:
    """Random digits from the operating system's source, each as likely as another."""
    return f"{secrets.randbelow(10**count):0{count}d}"


def made(now: Code | None, key: str, moment: float, seconds: float, count: int) -> Code | None:
    """The code for a key; None where the key's own code has ended and must not live again."""
    if now is not None and now.key == key:
        return now if moment < now.ends and not now.used else None
    return Code(key, digits(count), moment + seconds)


def judged(now: Code | None, code: str, moment: float, attempts: int) -> tuple[str, Code | None]:
    """What a check comes to, and what is kept afterwards (None: as it was)."""
    if now is None or now.used:
        return "none", None
    if moment >= now.ends:
        return "expired", None
    if now.wrong >= attempts:
        return "too many attempts", None
    if hmac.compare_digest(now.code.encode(), code.encode()):
        return "right", Code(now.key, now.code, now.ends, now.wrong, used=True)
    return "wrong", Code(now.key, now.code, now.ends, now.wrong + 1)
