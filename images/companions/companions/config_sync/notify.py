"""Notifies the application that its files have changed."""

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
"""Signals that may be meant to terminate a program, which then restarts with the new files."""


class NotifyError(Exception):
    """The application could not be notified."""


def notify(how: Mapping[str, Any]) -> None:
    """Notify it once. Raises NotifyError."""
    if "url" in how:
        _post(how["url"])
    else:
        _signal(how["process"], how["signal"])


def _post(url: str) -> None:
    request = urllib.request.Request(url, data=b"", method="POST")  # noqa: S310
    try:
        # Only the application itself is notified: a redirect is an error.
        with urllib.request.build_opener(NoRedirects).open(request, timeout=_SECONDS):
            return
    except (OSError, http.client.HTTPException) as error:
        # The response may be invalid HTTP.
        raise NotifyError(f"POST {url}: {error!r}") from error


def _signal(process: str, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    notified, foreign, unhandled = 0, [], []
    for pid in pids(process):
        if name not in _ENDING and not handles(pid, number):
            unhandled.append(pid)
            continue
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            # Another user's process of that name; others may still be notified.
            foreign.append(pid)
        else:
            notified += 1
    if notified:
        return
    if unhandled:
        raise NotifyError(f"process {unhandled[0]} ({process}) does not handle SIG{name} (yet)")
    if foreign:
        raise NotifyError(f"process {foreign[0]} ({process}) belongs to another user")
    raise NotifyError(f"no process {process}")


def handles(pid: int, number: int) -> bool:
    """Whether a process handles a signal: it catches, blocks or awaits it.

    Most signals would kill a process that is still starting, and it would miss the others.
    """
    process = pathlib.Path(f"/proc/{pid}")
    try:
        status = (process / "status").read_text(errors="replace")
    except OSError:
        # The process has exited, which sending the signal will show.
        return True
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    # A sandbox may not show the masks.
    masks = [int(lines[key], 16) for key in ("SigCgt", "SigBlk") if key in lines]
    if not masks or any(mask >> (number - 1) & 1 for mask in masks):
        return True
    # During sigwait() the mask does not show the signal as blocked.
    with contextlib.suppress(OSError):
        return "sigtimedwait" in (process / "wchan").read_text()
    return False


def pids(process: str) -> list[int]:
    """Processes of the pod with this name, without children of such processes.

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
        # nginx overwrites its command line with one word, "nginx: master process nginx".
        names = {word.rpartition("/")[2].partition(":")[0] for word in words[:2]}
        if process in names:
            parents[int(folder.name)] = int(status.rpartition(")")[2].split()[1])
    return sorted(pid for pid, parent in parents.items() if parent not in parents)
