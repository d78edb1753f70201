"""Notifies the application of a change: a signal to its process, or a POST to its server."""

import contextlib
import http.client
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from elector.belief import monotonic
from elector.metrics import Metrics

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 3.0
_NAME_LIMIT = 15
# These may be meant to terminate a program, which then restarts.
_ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_PIECE = 65536


class Target(Protocol):
    """Destination of a notification."""

    def notify(self, status: Mapping[str, Any]) -> None:
        """Notify it once; raises OSError if that fails."""
        ...


class Url:
    """POST the JSON of ``GET /``.

    Only the application itself is notified: a redirect is an error.
    """

    def __init__(self, url: str, timeout: float = _TIMEOUT_SECONDS) -> None:
        """Parse the URL.

        :param url: begins with ``http://``
        :param timeout: seconds for the whole request
        :raises ValueError: an invalid URL
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"must begin with http:// and have a host: {url}")
        self._url = url
        self._host, self._port = parts.hostname, parts.port or http.client.HTTP_PORT
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout = timeout

    def notify(self, status: Mapping[str, Any]) -> None:
        """Post it; anything but a complete 2xx response is an error."""
        deadline = monotonic() + self._timeout
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.connect()
            # The socket's own timeout restarts with each byte.
            breaking = threading.Timer(max(0.0, deadline - monotonic()), _shut, [connection.sock])
            breaking.daemon = True
            breaking.start()
            try:
                self._post(connection, json.dumps(dict(status)).encode())
            finally:
                breaking.cancel()
            # Headers, or a body without a length, that were cut off by the timer look complete.
            if monotonic() >= deadline:
                raise TimeoutError
        except (OSError, http.client.HTTPException) as error:
            late = (
                f"no complete response in {self._timeout} s"
                if monotonic() >= deadline
                else repr(error)
            )
            raise OSError(f"{self._url}: {late}") from None
        finally:
            connection.close()

    def _post(self, connection: http.client.HTTPConnection, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", self._path, body, headers)
        answer = connection.getresponse()
        while answer.read(_PIECE):
            pass
        if answer.length:
            raise OSError("the response is truncated")
        if not http.HTTPStatus.OK <= answer.status < http.HTTPStatus.MULTIPLE_CHOICES:
            raise OSError(f"the response has status {answer.status}")


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class Signal:
    """Send a signal to every process of the pod with a name.

    The name is the kernel's (15 characters), the program's file, or the script that it runs.
    """

    def __init__(self, process: str, name: str, proc: Path = Path("/proc")) -> None:
        self._process = process
        self._signal = signal.Signals[f"SIG{name.removeprefix('SIG')}"]
        self._proc = proc

    def notify(self, status: Mapping[str, Any]) -> None:  # noqa: ARG002 (a signal has no content)
        """Send it; raises OSError if there is no such process."""
        found = self.processes()
        if not found:
            raise OSError(f"no process {self._process}")
        notified, foreign, unhandled = 0, [], []
        for pid in found:
            if self._signal not in _ENDING and not self._handles(pid):
                unhandled.append(pid)
                continue
            try:
                os.kill(pid, self._signal)
            except ProcessLookupError:
                continue
            except PermissionError:
                # Another user's process of that name; others may still be notified.
                foreign.append(pid)
            else:
                notified += 1
        if not notified:
            if unhandled:
                what = f"process {unhandled[0]} does not handle {self._signal.name} (yet)"
            elif foreign:
                what = f"process {foreign[0]} belongs to another user"
            else:
                what = "the process has exited"
            raise OSError(f"{self._process}: {what}")

    def _handles(self, pid: int) -> bool:
        """Whether a process handles the signal: it catches, blocks or awaits it.

        Most signals would kill a process that is still starting, and it would miss the others.
        """
        process = self._proc / str(pid)
        try:
            status = (process / "status").read_text(errors="replace")
        except OSError:
            # The process has exited, which sending the signal will show.
            return True
        lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        # A sandbox may not show the masks.
        masks = [int(lines[key], 16) for key in ("SigCgt", "SigBlk") if key in lines]
        if not masks or any(mask >> (self._signal - 1) & 1 for mask in masks):
            return True
        # During sigwait() the mask does not show the signal as blocked.
        with contextlib.suppress(OSError):
            return "sigtimedwait" in (process / "wchan").read_text()
        return False

    def processes(self) -> list[int]:
        """Pids of the processes, without this one."""
        found = []
        for folder in self._proc.iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            try:
                kernel = (folder / "comm").read_text(errors="replace").strip()
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                # The process has exited meanwhile, or belongs to another user.
                continue
            names = {Path(word).name for word in words[:2] if word}
            if self._process in names or kernel == self._process[:_NAME_LIMIT]:
                found.append(int(folder.name))
        return found


class Notifier:
    """Notifies a target of the newest status, with retries until it succeeds or is outdated.

    Retries do not end: an application that starts later than its elector is notified too.
    """

    def __init__(self, target: Target, metrics: Metrics) -> None:
        self._target = target
        self._metrics = metrics
        self._changed = threading.Condition()
        self._newest: Mapping[str, Any] | None = None
        self._number = 0
        self._tried = 0
        self._done = 0
        self._thread = threading.Thread(target=self._work, name="notifier", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def post(self, status: Mapping[str, Any]) -> None:
        """Queue a notification, which replaces a pending one."""
        with self._changed:
            self._newest = status
            self._number += 1
            self._changed.notify_all()

    def settle(self, seconds: float) -> bool:
        """Wait for the first attempt of the newest notification; False if that timed out.

        It does not wait for success: the application may have exited before its elector.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._tried == self._number, seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._done != self._number)
                status, number = self._newest, self._number
            if status is not None:
                self._retry(status, number)
            with self._changed:
                self._done = number
                self._changed.notify_all()

    def _retry(self, status: Mapping[str, Any], number: int) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._metrics.count("notifications_total")
            succeeded = self._notify(status, first=pause == _FIRST_PAUSE)
            with self._changed:
                self._tried = number
                self._changed.notify_all()
                if succeeded:
                    return
                if self._changed.wait_for(lambda: self._number != number, pause):
                    return
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _notify(self, status: Mapping[str, Any], *, first: bool) -> bool:
        try:
            self._target.notify(status)
        except Exception as error:  # noqa: BLE001 (any error is retried)
            self._metrics.count("notification_failures_total")
            if first:
                _log.warning("could not notify the application, retrying: %s", error)
            return False
        return True
