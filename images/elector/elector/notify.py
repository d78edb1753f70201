"""Telling the application of a change: a signal to its process, or a POST to its server."""

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
# They may be meant to end a program, which is then started anew.
_ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_PIECE = 65536


class Target(Protocol):
    """Where the application is told."""

    def tell(self, standing: Mapping[str, Any]) -> None:
        """Tell it once; raises OSError if that did not work."""
        ...


class Url:
    """POST the JSON that ``GET /`` answers with.

    The application itself is told, and nobody that it names: a redirect is an error.
    """

    def __init__(self, url: str, timeout: float = _TIMEOUT_SECONDS) -> None:
        """Take the address.

        :param url: begins with ``http://``
        :param timeout: seconds for all of it
        :raises ValueError: a URL that cannot be right
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"must begin with http:// and have a host: {url}")
        self._url = url
        self._host, self._port = parts.hostname, parts.port or http.client.HTTP_PORT
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout = timeout

    def tell(self, standing: Mapping[str, Any]) -> None:
        """Post it; anything but a whole answer with a 2xx is an error."""
        deadline = monotonic() + self._timeout
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.connect()
            # The socket's own timeout starts anew with each byte.
            breaking = threading.Timer(max(0.0, deadline - monotonic()), _shut, [connection.sock])
            breaking.daemon = True
            breaking.start()
            try:
                self._post(connection, json.dumps(dict(standing)).encode())
            finally:
                breaking.cancel()
            # A head, or a body without a length, that was broken looks like one that ended.
            if monotonic() >= deadline:
                raise TimeoutError
        except (OSError, http.client.HTTPException) as error:
            late = (
                f"no whole answer in {self._timeout} s" if monotonic() >= deadline else repr(error)
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
            raise OSError("its answer was cut short")
        if not http.HTTPStatus.OK <= answer.status < http.HTTPStatus.MULTIPLE_CHOICES:
            raise OSError(f"it answered {answer.status}")


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class Signal:
    """Send a signal to every process of a name that the pod shows.

    A name is the kernel's (15 characters), the program's file, or the script that it runs.
    """

    def __init__(self, process: str, name: str, proc: Path = Path("/proc")) -> None:
        self._process = process
        self._signal = signal.Signals[f"SIG{name.removeprefix('SIG')}"]
        self._proc = proc

    def tell(self, standing: Mapping[str, Any]) -> None:  # noqa: ARG002 (a signal says no more)
        """Send it; that there is no such process is an error."""
        found = self.processes()
        if not found:
            raise OSError(f"no process {self._process}")
        told, foreign, deaf = 0, [], []
        for pid in found:
            if self._signal not in _ENDING and not self._hears(pid):
                deaf.append(pid)
                continue
            try:
                os.kill(pid, self._signal)
            except ProcessLookupError:
                continue
            except PermissionError:
                # Another program of that name; it says nothing of those that may be told.
                foreign.append(pid)
            else:
                told += 1
        if not told:
            if deaf:
                what = f"process {deaf[0]} does not listen for {self._signal.name} (yet)"
            elif foreign:
                what = f"process {foreign[0]}, another user's"
            else:
                what = "its process has ended"
            raise OSError(f"{self._process}: {what}")

    def _hears(self, pid: int) -> bool:
        """Whether the signal means something to a process: it is caught, or blocked to be fetched.

        One that is still starting would be ended by most signals, and miss the others.
        """
        process = self._proc / str(pid)
        try:
            status = (process / "status").read_text(errors="replace")
        except OSError:
            # It has ended, which sending will show.
            return True
        lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        # A sandbox may not say.
        masks = [int(lines[key], 16) for key in ("SigCgt", "SigBlk") if key in lines]
        if not masks or any(mask >> (self._signal - 1) & 1 for mask in masks):
            return True
        # In sigwait() it is not blocked for as long.
        with contextlib.suppress(OSError):
            return "sigtimedwait" in (process / "wchan").read_text()
        return False

    def processes(self) -> list[int]:
        """Numbers of the processes, without this one."""
        found = []
        for folder in self._proc.iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            try:
                kernel = (folder / "comm").read_text(errors="replace").strip()
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                # It has ended meanwhile, or belongs to somebody else.
                continue
            names = {Path(word).name for word in words[:2] if word}
            if self._process in names or kernel == self._process[:_NAME_LIMIT]:
                found.append(int(folder.name))
        return found


class Notifier:
    """Tells a target the newest standing, again until it is heard or outdated.

    There is no last try: an application that starts later than its elector is told too.
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

    def post(self, standing: Mapping[str, Any]) -> None:
        """Have it told; what has not been told yet is outdated."""
        with self._changed:
            self._newest = standing
            self._number += 1
            self._changed.notify_all()

    def settle(self, seconds: float) -> bool:
        """Wait until it was tried once to tell the newest; whether that was in time.

        Who is not there, because it has ended before its elector, is not waited for.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._tried == self._number, seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._done != self._number)
                standing, number = self._newest, self._number
            if standing is not None:
                self._insist(standing, number)
            with self._changed:
                self._done = number
                self._changed.notify_all()

    def _insist(self, standing: Mapping[str, Any], number: int) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._metrics.count("notifications_total")
            heard = self._tell(standing, first=pause == _FIRST_PAUSE)
            with self._changed:
                self._tried = number
                self._changed.notify_all()
                if heard:
                    return
                if self._changed.wait_for(lambda: self._number != number, pause):
                    return
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _tell(self, standing: Mapping[str, Any], *, first: bool) -> bool:
        try:
            self._target.tell(standing)
        except Exception as error:  # noqa: BLE001 (whatever it is, the next change must be told)
            self._metrics.count("notification_failures_total")
            if first:
                _log.warning("the application was not told, which is tried again: %s", error)
            return False
        return True
