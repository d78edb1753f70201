"""The log."""

import sys
import time

_last = [""]


def say(text: str) -> None:
    """Write a line, unless it repeats the last one."""
    if text != _last[-1]:
        _last[-1] = text
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        sys.stdout.flush()
