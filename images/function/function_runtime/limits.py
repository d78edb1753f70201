"""The function's limits: concurrency and timeout.

The event loop serves the connections: it reads a request completely before that takes a slot, and
responds in time whatever the function does. The function runs in a thread. Python cannot kill a
thread: at the timeout an exception is raised in it, and if that has no effect (it is blocked in a
system call), the process is replaced as soon as the other requests are done. Until then its slot
stays in use, so the concurrency is never exceeded.
"""

import asyncio
import contextlib
import contextvars
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from function_runtime import front, identity, wsgi
from function_runtime.answers import Answer, begun, broken_off, busy, refusal, send
from function_runtime.bodies import Bodies, RefusedError
from function_runtime.identity import Identity
from function_runtime.logs import Log
from function_runtime.metrics import Metrics
from function_runtime.places import Places
from function_runtime.settings import Settings

STUCK_SECONDS = 3.0
"""Seconds from a request's timeout until the process counts as stuck."""
REPLACED = 70
"""Exit status of a process that is replaced."""

_LEAVING = "this process is being replaced"


class OutOfTimeError(BaseException):
    """Raised inside a function at its timeout. Not an Exception, so that it is not swallowed."""


class _Stream:
    """A streamed response."""

    def __init__(self, request: web.BaseRequest, ids: Identity) -> None:
        self._request = request
        self._ids = ids
        self._loop = asyncio.get_running_loop()
        self.response: web.StreamResponse | None = None
        self._left: int | None = None
        """Bytes left of its Content-Length, if it has one."""

    def begin(self, status: int, reason: str, headers: list[tuple[str, str]]) -> wsgi.Write:
        """Send the headers; called in the function's thread."""
        length = next((v for k, v in headers if k.lower() == "content-length"), None)
        self._left = None if length is None else int(length)
        self.response = begun(status, reason, _named(headers, self._ids))
        self._wait_for(self._prepare(self.response))
        return self._write

    async def end(self) -> None:
        """End the response."""
        if self.response is None:
            raise RuntimeError("not begun")
        if self._left:
            # The client would wait for the rest.
            raise broken_off(self._request)
        await self.response.write_eof()

    async def _prepare(self, response: web.StreamResponse) -> None:
        await response.prepare(self._request)

    def _write(self, piece: bytes) -> None:
        if self.response is None:
            raise RuntimeError("not begun")
        if self._left is not None:
            self._left -= len(piece)
        self._wait_for(self.response.write(piece))

    def _wait_for(self, work: Any) -> None:
        # A client that does not read blocks the thread here until the timeout, which resets the
        # connection.
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


class _Call:
    """One call of the function."""

    def __init__(self, environ: dict[str, Any], stream: _Stream) -> None:
        self.environ = environ
        self.stream = stream
        self.thread = 0
        """Its id; 0 before it has one."""
        self.ended = False
        self.abandoned = False
        self.answer: asyncio.Future[Answer | None] | None = None
        """Its result is None if the response was streamed."""


class Limited:
    """Serves a WSGI application."""

    def __init__(
        self,
        application: wsgi.Application,
        settings: Settings,
        log: Log,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        """Create it; it is used from one event loop.

        :param leave: exits the process with a status
        """
        self._leave = leave
        self._application = application
        self._settings = settings
        self._log = log
        self._bodies = Bodies()
        self._places = Places(settings.concurrency, settings.waiting)
        self._threads = ThreadPoolExecutor(settings.concurrency, "function")
        self._mutex = threading.Lock()
        self._running = 0
        self._here = 0
        """Requests without a complete response."""
        self._last = time.monotonic()
        self._stuck = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.metrics = Metrics()

    @property
    def ready(self) -> bool:
        """Whether it accepts new requests."""
        return not self._stuck

    def metrics_text(self) -> str:
        """The metrics."""
        return self.metrics.text(self._settings.name, self._running, self._places.waiting)

    def activity(self) -> dict[str, float]:
        """The number of requests, running or queued, and the seconds since the last one."""
        count = self._running + self._places.waiting
        idle = 0.0 if count else time.monotonic() - self._last
        return {"busy": count, "idle_seconds": round(idle, 3)}

    def draining(self) -> None:
        """Refuse requests that are still arriving with a 503, for a retry."""
        self._bodies.close("the function is shutting down")

    async def close(self) -> None:
        """Stop the threads, after the last response."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Respond to one request."""
        began = time.monotonic()
        ids = identity.of(request.headers)
        identity.current.set(ids)
        self._here += 1
        about = {"method": request.method, "path": request.path}
        try:
            response = await self._answered(request, ids)
        except ConnectionError:
            self._log.write("info", "the response was not sent completely", **about)
            raise
        finally:
            self._here -= 1
        seconds = time.monotonic() - began
        self.metrics.answered(response.status, seconds)
        self._log.write(
            "error" if response.status >= 500 else "info",  # noqa: PLR2004
            "answered",
            **about,
            status=response.status,
            milliseconds=round(seconds * 1000, 2),
        )
        return response

    async def _answered(self, request: web.BaseRequest, ids: Identity) -> web.StreamResponse:
        stream = _Stream(request, ids)
        try:
            with await self._bodies.read(request) as body:
                environ = wsgi.environ(request, body.data)
                environ["HTTP_X_REQUEST_ID"] = ids.request_id
                environ["HTTP_TRACEPARENT"] = ids.traceparent
                answer = await self._limited(_Call(environ, stream))
        except RefusedError as error:
            answer = error.answer
        if stream.response is None:
            answer = answer or refusal(500, "the function failed")
            named = Answer(
                answer.status, answer.reason, tuple(_named(answer.headers, ids)), answer.body
            )
            return await send(request, named, last=self._stuck)
        if answer is not None:
            # It failed or timed out in the middle of the response.
            raise broken_off(request)
        await stream.end()
        return stream.response

    async def _limited(self, call: _Call) -> Answer | None:
        """The response; None if it was streamed."""
        if not await self._places.take(self._settings.timeout):
            return busy(_LEAVING if self._stuck else "busy")
        self._running += 1
        loop = asyncio.get_running_loop()
        call.answer = loop.create_future()
        timer = loop.call_later(self._settings.timeout, self._late, call)
        try:
            self._threads.submit(contextvars.copy_context().run, self._work, call, loop)
            return await call.answer
        finally:
            timer.cancel()

    def _done(self, call: _Call, answer: Answer | None) -> None:
        """The function has returned; its response may have been replaced by a timeout."""
        self._running -= 1
        self._last = time.monotonic()
        self._places.give()
        if call.answer is not None and not call.answer.done():
            call.answer.set_result(answer)

    # in the function's thread

    def _work(self, call: _Call, loop: asyncio.AbstractEventLoop) -> None:
        answer = None
        try:
            with self._mutex:
                call.thread = threading.get_ident()
            answer = self._run(call)
        except OutOfTimeError:
            self._log.write("error", "the function was interrupted after its timeout")
        try:
            self._end(call)
        except OutOfTimeError:
            # It was raised at the very end. There is at most one.
            self._end(call)
        loop.call_soon_threadsafe(self._done, call, answer)

    def _run(self, call: _Call) -> Answer | None:
        try:
            answer = wsgi.run(self._application, call.environ, call.stream.begin)
        except OutOfTimeError:
            raise
        except ConnectionError as error:
            if call.stream.response is None:
                answer = self._failed(error)
            else:
                # In the middle of the response.
                self._log.write("info", "the client disconnected")
                answer = refusal(500, "the client disconnected")
        except BaseException as error:  # noqa: BLE001 (SystemExit in a function is an error too)
            answer = self._failed(error)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        return answer

    def _failed(self, error: BaseException) -> Answer:
        self._log.write("error", f"{type(error).__name__}: {error}")
        return refusal(500, "the function failed")

    def _end(self, call: _Call) -> None:
        """From here on this thread is not interrupted any more."""
        while not call.ended:
            with contextlib.suppress(OutOfTimeError), self._mutex:
                call.ended = True
        if call.abandoned:
            # Cancel a pending exception: the thread continues with other requests.
            with contextlib.suppress(OutOfTimeError):
                _interrupt(None)

    # timeout

    def _late(self, call: _Call) -> None:
        """Interrupt the function, and respond with 504."""
        with self._mutex:
            if call.ended:
                # It has ended at this moment.
                return
            call.abandoned = True
            if call.thread:
                _interrupt(call.thread)
        reason = f"timed out after {self._settings.timeout:g} s"
        self._log.write("error", f"{reason}, interrupting the function")
        if call.answer is not None and not call.answer.done():
            call.answer.set_result(refusal(504, reason))
        asyncio.get_running_loop().call_later(STUCK_SECONDS, self._check_stuck, call)

    def _check_stuck(self, call: _Call) -> None:
        if not call.ended and not self._stuck:
            self._stuck = True
            front.in_background(self._replace_process(), self._tasks)

    async def _replace_process(self) -> None:
        self._log.write("error", f"a function does not return; {_LEAVING}")
        self._places.close()
        self._bodies.close(_LEAVING)
        until = time.monotonic() + self._settings.timeout
        while self._here and time.monotonic() < until:
            await asyncio.sleep(0.05)
        self._leave(REPLACED)


def _named(headers: Any, ids: Identity) -> list[tuple[str, str]]:
    """A response's headers with the request's ids, which replace those of the function."""
    kept = [(k, v) for k, v in headers if k.lower() not in ("x-request-id", "traceparent")]
    return [*kept, *ids.headers.items()]


def _interrupt(thread: int | None) -> None:
    """Raise OutOfTimeError in a thread; None cancels a pending one of this thread."""
    target = threading.get_ident() if thread is None else thread
    error = None if thread is None else ctypes.py_object(OutOfTimeError)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target), error)
