"""Processes, identified by pid and start time."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process by its pid and its start time (clock ticks since boot)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process with this pid, or None; a zombie counts as exited."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] == "Z" else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return Process.of(self.pid) == self

    def stop(self, grace: float) -> None:
        """Interrupt it, wait up to `grace` seconds for its exit, then kill it."""
        for number in (signal.SIGINT, signal.SIGKILL):
            if not self.alive:
                return
            # It may exit at this moment.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            deadline = time.monotonic() + grace
            while time.monotonic() < deadline and self.alive:
                time.sleep(0.1)


def started_before(pid: int, moment: float) -> bool:
    """Whether the process with this pid existed at `moment` (Unix seconds).

    False if there is none now, or the pid belongs to a later one.
    """
    process = Process.of(pid)
    if process is None:
        return False
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    began = time.time() - uptime + process.started / os.sysconf("SC_CLK_TCK")
    return began <= moment + 1.0
