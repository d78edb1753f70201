"""The limits around the function: how many at the same time, and for how long.

The event loop has the connections: it reads a request to its end before it takes a place, and
answers in time whatever the function does. The function runs in a thread. Python cannot end a
thread from outside: when its time is up the function gets an exception, and where it does not see
it (it sits in a system call), the process is replaced as soon as the other requests are done. Until
then its place stays taken, so the concurrency is never exceeded.
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
"""From the end of a request's time until the process counts as stuck."""
REPLACED = 70
"""Exit status of a process that gives way to a new one."""

_LEAVING = "this process gives way to a new one"


class OutOfTimeError(BaseException):
    """Raised inside a function whose time is up. No Exception, so that it is not swallowed."""


class _Stream:
    """An answer that is sent as it comes into being."""

    def __init__(self, request: web.BaseRequest, who: Identity) -> None:
        self._request = request
        self._who = who
        self._loop = asyncio.get_running_loop()
        self.response: web.StreamResponse | None = None
        self._left: int | None = None
        """Bytes that it has still to have, if that was said."""

    def begin(self, status: int, reason: str, headers: list[tuple[str, str]]) -> wsgi.Write:
        """Send its head; from the function's thread."""
        length = next((v for k, v in headers if k.lower() == "content-length"), None)
        self._left = None if length is None else int(length)
        self.response = begun(status, reason, _named(headers, self._who))
        self._wait_for(self._prepare(self.response))
        return self._write

    async def end(self) -> None:
        """Send its end."""
        if self.response is None:
            raise RuntimeError("not begun")
        if self._left:
            # The client would wait for what does not come.
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
        # A client that does not read keeps the thread here until the time is up: then the
        # connection is broken off, and what it waits for fails.
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


class _Call:
    """One request that the function works on."""

    def __init__(self, environ: dict[str, Any], stream: _Stream) -> None:
        self.environ = environ
        self.stream = stream
        self.thread = 0
        """0 until it has one."""
        self.ended = False
        self.abandoned = False
        self.answer: asyncio.Future[Answer | None] | None = None
        """None in it where it was sent already."""


class Limited:
    """Answers requests with a WSGI application."""

    def __init__(
        self,
        application: wsgi.Application,
        settings: Settings,
        log: Log,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        """Describe it; it is used from one event loop.

        :param leave: ends the process with a status
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
        """Requests that have no answer yet."""
        self._last = time.monotonic()
        self._stuck = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.metrics = Metrics()

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return not self._stuck

    def measured(self) -> str:
        """The metrics."""
        return self.metrics.text(self._settings.name, self._running, self._places.waiting)

    def activity(self) -> dict[str, float]:
        """Requests that run or wait now, and the seconds without any."""
        count = self._running + self._places.waiting
        idle = 0.0 if count else time.monotonic() - self._last
        return {"busy": count, "idle_seconds": round(idle, 3)}

    def leaving(self) -> None:
        """No new requests come: what is still on its way here is told to come again."""
        self._bodies.close("it is told to end")

    async def close(self) -> None:
        """All are answered: no thread has anything to do."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        began = time.monotonic()
        who = identity.of(request.headers)
        identity.current.set(who)
        self._here += 1
        about = {"method": request.method, "path": request.path}
        try:
            response = await self._answered(request, who)
        except ConnectionError:
            self._log.write("info", "the answer did not reach its end", **about)
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

    async def _answered(self, request: web.BaseRequest, who: Identity) -> web.StreamResponse:
        stream = _Stream(request, who)
        try:
            with await self._bodies.read(request) as body:
                environ = wsgi.environ(request, body.data)
                environ["HTTP_X_REQUEST_ID"] = who.request_id
                environ["HTTP_TRACEPARENT"] = who.traceparent
                answer = await self._limited(_Call(environ, stream))
        except RefusedError as error:
            answer = error.answer
        if stream.response is None:
            answer = answer or refusal(500, "the function failed")
            named = Answer(
                answer.status, answer.reason, tuple(_named(answer.headers, who)), answer.body
            )
            return await send(request, named, last=self._stuck)
        if answer is not None:
            # It failed, or is out of time, in the middle.
            raise broken_off(request)
        await stream.end()
        return stream.response

    async def _limited(self, call: _Call) -> Answer | None:
        """The answer; None if it was sent already."""
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
        """The function has ended, whether somebody still waits for its answer or not."""
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
            self._log.write("error", "ended, out of time")
        try:
            self._end(call)
        except OutOfTimeError:
            # It came at the very end. There is one at most.
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
                # Whoever asked has gone in the middle.
                self._log.write("info", "the client has gone")
                answer = refusal(500, "the client has gone")
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
        """From here on nobody interrupts this thread."""
        while not call.ended:
            with contextlib.suppress(OutOfTimeError), self._mutex:
                call.ended = True
        if call.abandoned:
            # What has not reached it yet is taken back: the thread goes on to other requests.
            with contextlib.suppress(OutOfTimeError):
                _interrupt(None)

    # out of time

    def _late(self, call: _Call) -> None:
        """Tell the function to end, and answer."""
        with self._mutex:
            if call.ended:
                # It was done at that moment.
                return
            call.abandoned = True
            if call.thread:
                _interrupt(call.thread)
        reason = f"not done in {self._settings.timeout:g} s"
        self._log.write("error", f"{reason}, told to end")
        if call.answer is not None and not call.answer.done():
            call.answer.set_result(refusal(504, reason))
        asyncio.get_running_loop().call_later(STUCK_SECONDS, self._look_after, call)

    def _look_after(self, call: _Call) -> None:
        if not call.ended and not self._stuck:
            self._stuck = True
            front.in_background(self._give_way(), self._tasks)

    async def _give_way(self) -> None:
        self._log.write("error", f"a function does not end; {_LEAVING}")
        self._places.close()
        self._bodies.close(_LEAVING)
        until = time.monotonic() + self._settings.timeout
        while self._here and time.monotonic() < until:
            await asyncio.sleep(0.05)
        self._leave(REPLACED)


def _named(headers: Any, who: Identity) -> list[tuple[str, str]]:
    """An answer's headers with the request's ids, whatever the function says of them."""
    kept = [(k, v) for k, v in headers if k.lower() not in ("x-request-id", "traceparent")]
    return [*kept, *who.headers.items()]


def _interrupt(thread: int | None) -> None:
    """Raise OutOfTimeError in a thread; with None take back what has not reached this one."""
    target = threading.get_ident() if thread is None else thread
    error = None if thread is None else ctypes.py_object(OutOfTimeError)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target), error)
