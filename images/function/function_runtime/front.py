"""What listens: aiohttp's server, with every request going to one handler as it came.

It reads the heads of requests before anybody has a place or a thread; a head that takes longer than
KEEPALIVE_SECONDS, and a connection that is idle for as long, are closed, and the one that is so for
longest where there are too many.
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
"""From the end of an answer to the head of the next request, and for the first head."""

LINGER_SECONDS = 5.0
"""How long a client may go on sending a body that was refused, so that it reads the refusal."""

_LONGEST_LINE = 16384


class Handler(Protocol):
    """What every request goes to."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Send the answer to one."""

    def leaving(self) -> None:
        """Called when no new requests come any more."""

    async def close(self) -> None:
        """Called when all are answered."""


def runner(handler: Handler, seconds: float, probes: web.AppRunner) -> web.AppRunner:
    """A server for one handler.

    :param seconds: how long those that are here may take from then on
    :param probes: its health, which is answered until then
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler.answer(request)
        except ConnectionError:
            # Nobody is there any more; aiohttp would take it for a fault of ours.
            if request.transport is not None:
                request.transport.abort()
            return web.Response()

    application = web.Application()
    application.router.add_route("*", "/{target:.*}", answer)
    application.on_response_prepare.append(only_what_was_given)

    async def leaving(_: web.Application) -> None:
        handler.leaving()

    async def answered(_: web.Application) -> None:
        await handler.close()
        await probes.cleanup()

    application.on_shutdown.append(leaving)
    application.on_cleanup.append(answered)
    log = logging.getLogger("aiohttp.server.function")
    log.addFilter(_no_fault_of_clients)
    return Runner(
        application,
        access_log=None,
        logger=log,
        # What a client has encoded is for the function, or for who is behind it.
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_SECONDS,
        lingering_time=LINGER_SECONDS,
        max_line_size=_LONGEST_LINE,
        max_field_size=_LONGEST_LINE,
        shutdown_timeout=seconds,
    )


def _no_fault_of_clients(record: logging.LogRecord) -> bool:
    # What is no HTTP was answered with 400; nobody fills our log with it.
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def raw_target(request: web.BaseRequest) -> str:
    """The target as it came; of an absolute one what is after the host."""
    raw = request.raw_path
    if raw.startswith("/") or "://" not in raw:
        return raw
    after = raw.partition("://")[2]
    path = after[min([after.find(c) for c in "/?" if c in after], default=len(after)) :]
    return path if path.startswith("/") else f"/{path}"


def raw_headers(request: web.BaseRequest) -> list[tuple[str, str]]:
    """The headers as they came, one character a byte."""
    return [(k.decode("latin-1"), v.decode("latin-1")) for k, v in request.raw_headers]


def in_background(work: Awaitable[None], kept: set[asyncio.Task[None]]) -> None:
    """Run it; the loop alone would forget it."""
    task = asyncio.ensure_future(work)
    kept.add(task)
    task.add_done_callback(kept.discard)
