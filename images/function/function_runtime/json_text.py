"""Strict JSON: without Python's extensions."""

import json
import math
from typing import Any


def parsed(text: bytes) -> Any:
    """Parse JSON.

    :raises ValueError: it is invalid, nested too deeply, or has a number beyond a double's range,
        which would be written as ``Infinity``
    """
    try:
        return json.loads(text, parse_constant=_refused, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not valid JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is too large")
    return number
