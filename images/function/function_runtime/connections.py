"""Limits the connections that are idle or whose request is incomplete."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

MOST_CONNECTIONS = 512
"""Maximum connections without a complete request; one more closes the one that waits longest.
Connections with a complete request are not counted: their handler has its own limits."""


@dataclass
class _One:
    """A connection."""

    transport: asyncio.Transport
    request: web.BaseRequest | None = None
    """The request that is arriving or being handled."""

    @property
    def waited_for(self) -> bool:
        """Whether the client has to send data."""
        return self.request is None or not self.request.content.is_eof()


class Runner(web.AppRunner):
    """aiohttp's runner, with a limit on connections."""

    def __init__(
        self, application: web.Application, *, most: int | None = None, **more: Any
    ) -> None:
        """As aiohttp's.

        :param most: MOST_CONNECTIONS by default
        """
        super().__init__(application, **more)
        self._most = MOST_CONNECTIONS if most is None else most
        self._here: dict[object, _One] = {}
        """By the time since which data of the client is awaited, the longest first."""
        application.middlewares.append(self._counted)

    async def setup(self) -> None:
        """Create the server and track its connections."""
        await super().setup()
        server: Any = self.server
        made, lost = server.connection_made, server.connection_lost

        def connection_made(protocol: Any, transport: asyncio.Transport) -> None:
            made(protocol, transport)
            self._waits(protocol, _One(transport))

        def connection_lost(protocol: Any, error: BaseException | None = None) -> None:
            self._here.pop(protocol, None)
            lost(protocol, error)

        # aiohttp has no other hook.
        server.connection_made, server.connection_lost = connection_made, connection_lost

    def _waits(self, protocol: object, one: _One) -> None:
        """Mark that data of the client is awaited from now on."""
        self._here.pop(protocol, None)
        self._here[protocol] = one
        if len(self._here) <= self._most:
            return
        waiting = [(other, found) for other, found in self._here.items() if found.waited_for]
        for other, found in waiting[: max(0, len(waiting) - self._most)]:
            del self._here[other]
            found.transport.abort()

    @web.middleware
    async def _counted(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        one = self._here.get(request.protocol)
        if one is None:
            # The connection was closed at this moment.
            return await handler(request)
        one.request = request
        try:
            return await handler(request)
        finally:
            one.request = None
            if request.protocol in self._here:
                self._waits(request.protocol, one)
