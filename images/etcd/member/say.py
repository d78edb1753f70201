"""One line of the log."""

import sys
import time

_said = [""]


def say(text: str) -> None:
    """Write a line, unless it is the one before again."""
    if text != _said[-1]:
        _said[-1] = text
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        sys.stdout.flush()
