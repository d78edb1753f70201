"""Plain values: numbers, strings, booleans, lists and mappings, each of the declared type only."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dds_patterns.arguments.place import Place

SCALARS: Mapping[type, str] = {
    int: "a whole number", float: "a number", str: "a string", bool: "true or false",
}  # fmt: skip
"""Names of the types in messages."""
# Half of a surrogate pair, which neither Pulumi's protocol nor a file can hold.
_HALF = re.compile("[\ud800-\udfff]")


def filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are set: neither None nor an empty list, mapping or text."""
    return {k: v for k, v in fields.items() if v is not None and v not in ([], (), {}, "")}


def scalar(place: Place, wanted: tuple[type, ...], value: Any) -> Any:
    """A value of one of the types; whole floats become integers."""
    # Numbers that cross a process boundary in Pulumi arrive as floats.
    if isinstance(value, float) and value.is_integer() and (int in wanted or float in wanted):
        return int(value)
    accepted = wanted if float not in wanted else (*wanted, int)
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in wanted):
        place.refuse(value, f"must be {' or '.join(SCALARS[each] for each in wanted)}")
    if isinstance(value, float) and not math.isfinite(value):
        place.refuse(value, "must be a finite number")
    if isinstance(value, str) and _HALF.search(value):
        place.refuse(value, "must be text that UTF-8 can hold")
    return value


def items(place: Place, value: Any) -> Iterator[tuple[Place, Any]]:
    """Each item of a list, with its place."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        place.refuse(value, "must be a list")
    return ((place.entry(position), item) for position, item in enumerate(value))


def entries(place: Place, value: Any) -> Iterator[tuple[Any, Any]]:
    """Each key of a mapping with its value; None is one that was left out."""
    if not isinstance(value, Mapping):
        place.refuse(value, "must be a mapping")
    return ((key, item) for key, item in value.items() if item is not None)
