"""How many connections may wait for a request, or for the rest of one."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

MOST_CONNECTIONS = 512
"""Connections whose next request is not whole; one more ends the one that is so for longest. Those
whose request is whole are not counted: whoever answers them has bounds."""


@dataclass
class _One:
    """A connection."""

    transport: asyncio.Transport
    request: web.BaseRequest | None = None
    """What is answered, or still arrives."""

    @property
    def waited_for(self) -> bool:
        """Whether the client has to send something."""
        return self.request is None or not self.request.content.is_eof()


class Runner(web.AppRunner):
    """aiohttp's, with a bound for connections."""

    def __init__(
        self, application: web.Application, *, most: int | None = None, **more: Any
    ) -> None:
        """As aiohttp's.

        :param most: MOST_CONNECTIONS by default
        """
        super().__init__(application, **more)
        self._most = MOST_CONNECTIONS if most is None else most
        self._here: dict[object, _One] = {}
        """In the order in which something began to be awaited of them."""
        application.middlewares.append(self._counted)

    async def setup(self) -> None:
        """Make the server, and look at who connects."""
        await super().setup()
        server: Any = self.server
        made, lost = server.connection_made, server.connection_lost

        def connection_made(protocol: Any, transport: asyncio.Transport) -> None:
            made(protocol, transport)
            self._waits(protocol, _One(transport))

        def connection_lost(protocol: Any, error: BaseException | None = None) -> None:
            self._here.pop(protocol, None)
            lost(protocol, error)

        # It has no other place where one is told.
        server.connection_made, server.connection_lost = connection_made, connection_lost

    def _waits(self, protocol: object, one: _One) -> None:
        """Something is awaited of it from now on."""
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
            # It was ended at this moment.
            return await handler(request)
        one.request = request
        try:
            return await handler(request)
        finally:
            one.request = None
            if request.protocol in self._here:
                self._waits(request.protocol, one)
