"""Cached results that all checkouts share: made under a lock, then renamed atomically."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from toolchain import progress


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive `flock` on `path`; print a line if that has to wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(what, "waiting for another run that works on this")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made_once(final: Path, what: str, make: Callable[[Path], None]) -> Path:
    """Return `final`, made by `make(temporary folder)` if it does not exist.

    Two processes never make it at the same time, and a killed one leaves no incomplete result.
    """
    if final.exists():
        return final
    with locked(final.parent / f".{final.name}.lock", what):
        if final.exists():
            return final
        for stale in final.parent.glob(f".{final.name}.part-*"):
            shutil.rmtree(stale, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f".{final.name}.part-", dir=final.parent))
        try:
            make(part)
            part.chmod(0o755)
            part.rename(final)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return final
