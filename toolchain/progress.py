"""Progress lines on stderr, and the summary of steps with their times."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_started = time.monotonic()
_steps: list[tuple[str, float, bool]] = []


def say(what: str, text: str) -> None:
    """Print one line: seconds since the start of the command, the part, the text."""
    elapsed = time.monotonic() - _started
    print(f"[{elapsed:5.0f}s] {what}: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Measure a step for `print_summary`."""
    before = time.monotonic()
    ok = False
    try:
        yield
        ok = True
    finally:
        _steps.append((name, time.monotonic() - before, ok))


@contextmanager
def heartbeat(what: str, text: str, every: float = 15.0) -> Iterator[None]:
    """Print `text` now and, while the body runs, again every `every` seconds."""
    before = time.monotonic()
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(every):
            say(what, f"{text} ({time.monotonic() - before:.0f} s so far)")

    say(what, text)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def print_summary() -> None:
    """Print the steps of this command with their times in seconds, if there were any."""
    if not _steps:
        return
    width = max(len(name) for name, _, _ in _steps)
    print("\nSteps:", file=sys.stderr)
    for name, seconds, ok in _steps:
        print(f"  {name:<{width}}  {seconds:7.1f} s  {'ok' if ok else 'FAILED'}", file=sys.stderr)
