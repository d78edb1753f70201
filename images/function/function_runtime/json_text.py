"""JSON as others may read it: what Python alone takes for JSON is none."""

import json
import math
from typing import Any


def parsed(text: bytes) -> Any:
    """The value.

    :raises ValueError: it is no JSON, is nested too deep, or has a number that no double holds:
        written again, that would be ``Infinity``, which others refuse
    """
    try:
        return json.loads(text, parse_constant=_refused, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is too large")
    return number
