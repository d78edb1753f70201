"""The limits around the function: how many at the same time, and for how long.

The function runs in the thread that has its connection: handing it to another one would cost as
much as all else together on a busy machine. One thread watches the time. When it is up, that one
answers over the connection in the other's place and closes it. Python cannot end a thread from
outside: the function gets an exception, and where it does not see it (it sits in a system call),
the process is replaced as soon as the other requests are done. Until then its place stays taken, so
the concurrency is never exceeded.
"""

import contextlib
import ctypes
import io
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from function_runtime import identity
from function_runtime.identity import Identity
from function_runtime.logs import Log
from function_runtime.metrics import Metrics
from function_runtime.settings import Settings

MOST_BYTES = 4 * 2**20
"""Longest body of a request."""
STUCK_SECONDS = 3.0
"""From the end of a request's time until the process counts as stuck."""
REPLACED = 70
"""Exit status of a process that gives way to a new one."""

_LOOK_SECONDS = 0.05
_TIMEOUT = "504 Gateway Timeout"

Answer = tuple[str, list[tuple[str, str]], bytes]
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class OutOfTimeError(BaseException):
    """Raised inside a function whose time is up. No Exception, so that it is not swallowed."""


class _Call:
    def __init__(self, environ: dict[str, Any], who: Identity, seconds: float) -> None:
        self.environ = environ
        self.who = who
        self.began = time.monotonic()
        self.deadline = self.began + seconds
        self.thread = threading.get_ident()
        self.ended = False
        self.abandoned = False
        self.told = 0.0
        """When an abandoned one was told to end; STUCK_SECONDS count from then."""
        self.answered = threading.Event()
        """Set when an abandoned one has its answer."""


class _Body:
    """An answer's body; what is to be done after it was sent is done when the server closes it."""

    def __init__(self, body: bytes, afterwards: Callable[[], None]) -> None:
        self._body = body
        self._afterwards = afterwards

    def __iter__(self) -> Iterator[bytes]:
        yield self._body

    def close(self) -> None:
        self._afterwards()


class Limited:
    """A WSGI application around another."""

    def __init__(
        self,
        application: Application,
        settings: Settings,
        log: Log,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._leave = leave
        self._application = application
        self._settings = settings
        self._log = log
        self._places = threading.BoundedSemaphore(settings.concurrency)
        self._mutex = threading.Lock()
        self._running: set[_Call] = set()
        self._waiting = 0
        self._last = time.monotonic()
        self._stuck = False
        self.metrics = Metrics()

    def start(self) -> None:
        """Start watching; a process that was forked has no thread of its parent's."""
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return not self._stuck

    def measured(self) -> str:
        """The metrics."""
        with self._mutex:
            running, waiting = len(self._running), self._waiting
        return self.metrics.text(self._settings.name, running, waiting)

    def activity(self) -> dict[str, float]:
        """Requests that run or wait now, and the seconds without any."""
        with self._mutex:
            busy = len(self._running) + self._waiting
            idle = 0.0 if busy else time.monotonic() - self._last
        return {"busy": busy, "idle_seconds": round(idle, 3)}

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request."""
        began = time.monotonic()
        who = identity.of(environ)
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        token = identity.current.set(who)
        try:
            answer = self._answer(environ, who)
        finally:
            identity.current.reset(token)
        if answer is None:
            # The connection is closed; what the server sends now goes nowhere.
            start_response(_TIMEOUT, [("Content-Length", "0"), ("Connection", "close")])
            return []
        status, headers, body = answer
        seconds = time.monotonic() - began

        def sent() -> None:
            token = identity.current.set(who)
            try:
                self._answered(method, path, int(status.split(" ", 1)[0]), seconds)
            finally:
                identity.current.reset(token)

        kept = [(k, v) for k, v in headers if k.lower() not in ("x-request-id", "traceparent")]
        start_response(status, [*kept, *who.headers.items()])
        return _Body(body, sent)

    def _answered(self, method: str, path: str, status: int, seconds: float) -> None:
        self.metrics.answered(status, seconds)
        self._log.write(
            "error" if status >= 500 else "info",  # noqa: PLR2004
            "answered",
            method=method,
            path=path,
            status=status,
            milliseconds=round(seconds * 1000, 2),
        )

    def _answer(self, environ: dict[str, Any], who: Identity) -> Answer | None:
        """The answer; None if it was sent already."""
        # Read here: a slow client must not take one of the function's places.
        body = environ["wsgi.input"].read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            return refusal("413 Content Too Large", f"more than {MOST_BYTES} bytes")
        environ = {
            **environ,
            "wsgi.input": io.BytesIO(body),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_X_REQUEST_ID": who.request_id,
            "HTTP_TRACEPARENT": who.traceparent,
        }
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        if not self._enter():
            return refusal("503 Service Unavailable", "busy", ("Retry-After", "1"))
        call = _Call(environ, who, self._settings.timeout)
        with self._mutex:
            self._running.add(call)
        answer = None
        try:
            answer = self._run(call)
        except OutOfTimeError:
            self._log.write("error", "ended, out of time")
        try:
            self._end(call)
        except OutOfTimeError:
            # It came at the very end. There is one at most.
            self._end(call)
        if call.abandoned:
            # What this thread sends must come after that, when the connection is closed.
            call.answered.wait()
            return None
        return answer

    def _run(self, call: _Call) -> Answer:
        try:
            answer = _collect(self._application, call.environ)
        except OutOfTimeError:
            raise
        except BaseException as error:  # noqa: BLE001 (SystemExit in a function is an error too)
            self._log.write("error", f"{type(error).__name__}: {error}")
            answer = refusal("500 Internal Server Error", "the function failed")
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        return answer

    def _end(self, call: _Call) -> None:
        """Give the place back. From here on nobody interrupts this thread."""
        while not call.ended:
            with contextlib.suppress(OutOfTimeError), self._mutex:
                call.ended = True
        if call.abandoned:
            # What has not reached it yet is taken back: the thread goes on to other requests.
            with contextlib.suppress(OutOfTimeError):
                _interrupt(None)
        with self._mutex:
            self._running.discard(call)
            self._last = time.monotonic()
        self._places.release()

    def _enter(self) -> bool:
        """Get a place, after waiting if others may wait; False if there is none."""
        if self._stuck:
            return False
        if self._places.acquire(blocking=False):
            return True
        with self._mutex:
            if self._waiting >= self._settings.waiting:
                return False
            self._waiting += 1
        try:
            return self._places.acquire(timeout=self._settings.timeout)
        finally:
            with self._mutex:
                self._waiting -= 1

    def _watch(self) -> None:
        """End what is out of time, and replace the process when something does not end."""
        while True:
            time.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            with self._mutex:
                late = [
                    c for c in self._running if now >= c.deadline and not (c.abandoned or c.ended)
                ]
                stuck = any(
                    c.abandoned and not c.ended and now >= c.told + STUCK_SECONDS
                    for c in self._running
                )
                for call in late:
                    call.abandoned = True
                    call.told = now
                    _interrupt(call.thread)
            for call in late:
                try:
                    self._answer_late(call)
                except Exception as error:  # noqa: BLE001 (whoever watches must go on)
                    self._log.write("error", f"{type(error).__name__}: {error}")
            if stuck:
                self._give_way()
                return

    def _answer_late(self, call: _Call) -> None:
        token = identity.current.set(call.who)
        try:
            reason = f"not done in {self._settings.timeout:g} s"
            self._log.write("error", f"{reason}, told to end")
            status, headers, body = refusal(_TIMEOUT, reason)
            lines = [f"HTTP/1.1 {status}", "Connection: close"]
            lines += [f"{k}: {v}" for k, v in (*headers, *call.who.headers.items())]
            connection = call.environ["gunicorn.socket"]
            # The client may have gone.
            with contextlib.suppress(OSError):
                connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            environ = call.environ
            seconds = time.monotonic() - call.began
            self._answered(environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""), 504, seconds)
        finally:
            call.answered.set()
            identity.current.reset(token)

    def _give_way(self) -> None:
        self._stuck = True
        self._log.write("error", "a function does not end; this process gives way to a new one")
        until = time.monotonic() + self._settings.timeout
        while time.monotonic() < until:
            with self._mutex:
                others = [call for call in self._running if not call.abandoned]
            if not others:
                break
            time.sleep(0.05)
        # The last answers leave before the threads that send them do.
        time.sleep(0.2)
        self._leave(REPLACED)


def _interrupt(thread: int | None) -> None:
    """Raise OutOfTimeError in a thread; with None take back what has not reached this one."""
    target = threading.get_ident() if thread is None else thread
    error = None if thread is None else ctypes.py_object(OutOfTimeError)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target), error)


def _collect(application: Application, environ: dict[str, Any]) -> Answer:
    said: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> None:
        said[:] = [status, headers]

    result = application(environ, start_response)
    try:
        body = b"".join(result)
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()
    return said[0], list(said[1]), body


def refusal(status: str, reason: str, *headers: tuple[str, str]) -> Answer:
    """An answer that is not the function's."""
    body = json.dumps({"error": reason}).encode() + b"\n"
    fixed = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return status, [*fixed, *headers], body
