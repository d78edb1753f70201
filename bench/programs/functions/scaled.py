"""A function that consumes CPU time."""

import time
from typing import Any


def handler(context: Any) -> dict[str, bool]:
    until = time.process_time() + context.json["milliseconds"] / 1000
    while time.process_time() < until:
        pass
    return {"done": True}
