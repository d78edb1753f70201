"""Telling the application that its files have changed."""

import contextlib
import http.client
import os
import pathlib
import signal
import urllib.request
from collections.abc import Mapping
from typing import Any

from companions.config_sync.fetch import NoRedirects

_SECONDS = 5
_ENDING = ("INT", "QUIT", "TERM")
"""Signals that may be meant to end a program, which is then started with the new files."""


class TellError(Exception):
    """The application could not be told."""


def tell(how: Mapping[str, Any]) -> None:
    """Tell it once. Raises TellError."""
    if "url" in how:
        _post(how["url"])
    else:
        _signal(how["process"], how["signal"])


def _post(url: str) -> None:
    request = urllib.request.Request(url, data=b"", method="POST")  # noqa: S310
    try:
        # The application itself is told, and nobody that it names.
        with urllib.request.build_opener(NoRedirects).open(request, timeout=_SECONDS):
            return
    except (OSError, http.client.HTTPException) as error:
        # What it answers need not be HTTP.
        raise TellError(f"POST {url}: {error!r}") from error


def _signal(process: str, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    told, foreign, deaf = 0, [], []
    for pid in pids(process):
        if name not in _ENDING and not hears(pid, number):
            deaf.append(pid)
            continue
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            # Another program of that name; it says nothing of those that may be told.
            foreign.append(pid)
        else:
            told += 1
    if told:
        return
    if deaf:
        raise TellError(f"process {deaf[0]} ({process}) does not listen for SIG{name} (yet)")
    if foreign:
        raise TellError(f"process {foreign[0]} ({process}) belongs to another user")
    raise TellError(f"no process {process}")


def hears(pid: int, number: int) -> bool:
    """Whether a signal means something to a process: it is caught, or blocked to be fetched.

    One that is still starting would be ended by most signals, and miss the others.
    """
    process = pathlib.Path(f"/proc/{pid}")
    try:
        status = (process / "status").read_text(errors="replace")
    except OSError:
        # It has ended, which sending will show.
        return True
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    # A sandbox may not say.
    masks = [int(lines[key], 16) for key in ("SigCgt", "SigBlk") if key in lines]
    if not masks or any(mask >> (number - 1) & 1 for mask in masks):
        return True
    # In sigwait() it is not blocked for as long.
    with contextlib.suppress(OSError):
        return "sigtimedwait" in (process / "wchan").read_text()
    return False


def pids(process: str) -> list[int]:
    """Processes of the pod that were started under this name, but for children of such ones.

    The name is the program's or, for an interpreter, the script's: the last part of one of the
    first two words of its command line.
    """
    parents: dict[int, int] = {}
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            status = (folder / "stat").read_text(errors="replace")
        except OSError:
            continue
        # "nginx: master process nginx" is one word, as it was written over.
        names = {word.rpartition("/")[2].partition(":")[0] for word in words[:2]}
        if process in names:
            parents[int(folder.name)] = int(status.rpartition(")")[2].split()[1])
    return sorted(pid for pid, parent in parents.items() if parent not in parents)
