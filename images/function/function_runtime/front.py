"""The HTTP server: aiohttp, with one handler for every request.

It reads request headers before a request gets a slot or a thread. A connection that is idle, or whose
headers are incomplete, for KEEPALIVE_SECONDS is closed; if there are too many, the oldest is.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Protocol

from aiohttp import web
from aiohttp.http import HttpProcessingError

from function_runtime.answers import only_what_was_given
from function_runtime.connections import Runner

KEEPALIVE_SECONDS = 75.0
"""Timeout for the headers of the first or next request."""

LINGER_SECONDS = 5.0
"""How long the rest of a refused body is read, so that the client reads the response."""

_LONGEST_LINE = 16384


class Handler(Protocol):
    """Handles every request."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Respond to one request."""

    def draining(self) -> None:
        """Called at shutdown, when the server accepts no more connections."""

    async def close(self) -> None:
        """Called after the last response."""


def runner(handler: Handler, seconds: float, probes: web.AppRunner) -> web.AppRunner:
    """A server for one handler.

    :param seconds: timeout of requests in flight at shutdown
    :param probes: its health server, which runs until then
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler.answer(request)
        except ConnectionError:
            # The client has disconnected; aiohttp would log it as an error of the handler.
            if request.transport is not None:
                request.transport.abort()
            return web.Response()

    application = web.Application()
    application.router.add_route("*", "/{target:.*}", answer)
    application.on_response_prepare.append(only_what_was_given)

    async def draining(_: web.Application) -> None:
        handler.draining()

    async def answered(_: web.Application) -> None:
        await handler.close()
        await probes.cleanup()

    application.on_shutdown.append(draining)
    application.on_cleanup.append(answered)
    log = logging.getLogger("aiohttp.server.function")
    log.addFilter(_no_fault_of_clients)
    return Runner(
        application,
        access_log=None,
        logger=log,
        # A compressed body is forwarded or passed to the function unchanged.
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_SECONDS,
        lingering_time=LINGER_SECONDS,
        max_line_size=_LONGEST_LINE,
        max_field_size=_LONGEST_LINE,
        shutdown_timeout=seconds,
    )


def _no_fault_of_clients(record: logging.LogRecord) -> bool:
    # Invalid HTTP gets a 400 and must not fill the log.
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def raw_target(request: web.BaseRequest) -> str:
    """The raw request target; of an absolute one the part after the host."""
    raw = request.raw_path
    if raw.startswith("/") or "://" not in raw:
        return raw
    after = raw.partition("://")[2]
    path = after[min([after.find(c) for c in "/?" if c in after], default=len(after)) :]
    return path if path.startswith("/") else f"/{path}"


def raw_headers(request: web.BaseRequest) -> list[tuple[str, str]]:
    """The raw headers, as Latin-1."""
    return [(k.decode("latin-1"), v.decode("latin-1")) for k, v in request.raw_headers]


def in_background(work: Awaitable[None], kept: set[asyncio.Task[None]]) -> None:
    """Run it as a task; the event loop itself keeps only a weak reference."""
    task = asyncio.ensure_future(work)
    kept.add(task)
    task.add_done_callback(kept.discard)
