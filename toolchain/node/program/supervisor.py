"""Runs the node's programs, restarts them, and stops them in order."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOGS = Path("/var/log")
LOG_LIMIT = 64 * 1024 * 1024
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
STEADY = 30.0

_began = time.monotonic()


def say(event: str) -> None:
    """Logs one event, with the seconds since the node's start."""
    print(f"{time.monotonic() - _began:7.2f}s {event}", flush=True)


@dataclass
class _Running:
    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    ending: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class Supervisor:
    """The node's programs. A program that exits is restarted after 0.5 s, doubling up to 10 s; after it
    ran for 30 s the delay starts at 0.5 s again. `stopping` is set at shutdown and ends every loop.
    """

    def __init__(self, logs: Path = LOGS) -> None:
        self.stopping = threading.Event()
        self._logs = logs
        self._programs: dict[str, _Running] = {}
        self._lock = threading.Lock()

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Starts a program and restarts it when it exits; its output goes to `<logs>/<name>.log`."""
        running = _Running(name, list(argv), dict(env or {}))
        with self._lock:
            if name in self._programs:
                raise ValueError(f"{name} is already running")
            self._programs[name] = running
        running.thread = threading.Thread(target=self._keep, args=(running,), name=name)
        running.thread.daemon = True
        running.thread.start()
        say(f"{name}: started")

    def stop(self, names: Sequence[str], timeout: float) -> None:
        """Stops programs with SIGTERM and, after `timeout` seconds for all of them, with SIGKILL."""
        running = [self._programs[name] for name in names if name in self._programs]
        for program in running:
            program.ending.set()
            if program.process:
                program.process.terminate()
        end = time.monotonic() + timeout
        for program in running:
            if not program.process:
                continue
            try:
                program.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                say(f"{program.name}: killed, it did not exit within {timeout:.1f} s")
                program.process.kill()
                program.process.wait()

    def _keep(self, running: _Running) -> None:
        pause = FIRST_PAUSE
        while not running.ending.is_set():
            started = time.monotonic()
            try:
                with (self._logs / f"{running.name}.log").open("ab") as log:
                    running.process = subprocess.Popen(
                        running.argv,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env={**os.environ, **running.env},
                    )
            # Any error is retried: only this thread restarts the program.
            except Exception as error:  # noqa: BLE001
                say(f"{running.name}: cannot be started: {error}")
                running.ending.wait(LONGEST_PAUSE)
                continue
            if running.ending.is_set():
                running.process.terminate()
            code = running.process.wait()
            if running.ending.is_set():
                return
            if time.monotonic() - started > STEADY:
                pause = FIRST_PAUSE
            say(f"{running.name}: exited with {code}; restarting it in {pause:.1f} s")
            running.ending.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def limit_logs(self) -> None:
        """Truncates logs beyond 64 MiB (they are opened for appending)."""
        for log in self._logs.glob("*.log"):
            try:
                if log.stat().st_size > LOG_LIMIT:
                    os.truncate(log, 0)
                    say(f"{log}: truncated, it had more than {LOG_LIMIT >> 20} MiB")
            except OSError as error:
                # Not a reason to stop the node.
                say(f"{log}: cannot be truncated: {error}")
