"""Schedules in the syntax of cron."""

import re
from typing import Annotated

from dds_patterns.arguments.constraints import Constraint

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
# The bounds of each field, and the names of its numbers from the lower bound on.
_FIELDS: tuple[tuple[int, int, tuple[str, ...]], ...] = (
    (0, 59, ()), (0, 23, ()), (1, 31, ()), (1, 12, _MONTHS), (0, 6, _DAYS),
)  # fmt: skip
_PART = re.compile(r"(?:(?P<all>[*?])|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[0-9]+))?")


def _is_schedule(text: str) -> bool:
    fields = text.split(" ")
    return len(fields) == len(_FIELDS) and all(
        _is_part(part, *bounds)
        for field, bounds in zip(fields, _FIELDS, strict=True)
        for part in field.split(",")
    )


def _is_part(part: str, least: int, most: int, names: tuple[str, ...]) -> bool:
    parsed = _PART.fullmatch(part)
    if parsed is None or not part.isascii():
        return False
    if parsed["step"] is not None and not 1 <= int(parsed["step"][:4]) <= most:
        return False
    if parsed["all"]:
        return True
    first = _number(parsed["first"], least, names)
    last = first if parsed["last"] is None else _number(parsed["last"], least, names)
    return least <= first <= last <= most


def _number(word: str, least: int, names: tuple[str, ...]) -> int:
    if word.upper() in names:
        return names.index(word.upper()) + least
    return int(word) if word.isdecimal() and len(word) <= len("59") else -1


_ODD = (
    "", "@daily", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *",
    "* * * 13 *", "* * * * 7", "5-1 * * * *", "*/0 * * * *", "*/x * * * *", "a * * * *",
    "1,, * * * *", "* * * FOO *", "17 3 * * *\n", "CRON_TZ=UTC 1 * * * *",
)  # fmt: skip
Schedule = Annotated[
    str, Constraint("five fields as cron reads them, such as 17 3 * * *", _is_schedule, _ODD)
]
"""Five fields of cron, in UTC."""
