"""Kubernetes quantities, which the API server writes its own way (``0.5`` becomes ``500m``)."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

_FORM = re.compile(r"([+-]?[0-9]*\.?[0-9]+)(?:[eE]([+-]?[0-9]+)|([numkMGTPE]|[KMGTPE]i)?)\Z")
_UNITS = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}


def amount(value: Any) -> Decimal | None:
    """The number that a quantity stands for; None if it is none."""
    match = _FORM.match(str(value)) if isinstance(value, str | int | float) else None
    if match is None or isinstance(value, bool):
        return None
    number = Decimal(match[1])
    if match[2]:
        return number.scaleb(int(match[2]))
    return number * _UNITS.get(match[3] or "", Decimal(1))


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal or the same quantity."""
    if one == other:
        return True
    first = amount(one)
    return first is not None and first == amount(other)
