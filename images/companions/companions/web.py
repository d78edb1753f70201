"""A small HTTP server: GET and HEAD of a few paths, until SIGTERM.

A client that is slow holds a connection and nothing else: heads are read by one thread for all,
and only a whole request is worked out in a thread of its own. Each connection is one request.
"""

import asyncio
import contextlib
import dataclasses
import http
import json
import logging
import signal
import socket
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)

# Requests that are worked out at the same time; more wait. What runs beside an application must not
# grow with whoever asks.
MOST_REQUESTS = 16
# What the kubelet asks has places of its own, which no other request can take. Such a route waits
# for nothing.
PROBES = frozenset({"/health", "/healthz", "/live", "/ready", "/started"})
MOST_PROBES = 4
# Connections whose head is not whole, and as many whose request waits or is answered. One more of
# the former ends the oldest of them, one more of the latter is refused.
MOST_CONNECTIONS = 128
# Seconds for a whole head, and again for taking the answer.
PATIENCE = 10.0
LONGEST_HEAD = 16 << 10


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for."""

    path: str
    query: Mapping[str, str]
    """The last value of each name."""
    headers: Mapping[str, str]
    """By name in lower case."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is sent back."""

    body: str
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


Route = Callable[[Request], Answer]


def as_json(value: Any, status: int = 200) -> Answer:
    """An answer for machines."""
    return Answer(json.dumps(value, indent=1) + "\n", "application/json", status)


class Server:
    """Answers the routes' paths at one address."""

    def __init__(
        self, address: str, port: int, routes: Mapping[str, Route], patience: float = PATIENCE
    ) -> None:
        """Bind the address; an error if it is taken.

        :param patience: seconds for a head to be whole, and for an answer to be taken
        """
        six = ":" in address
        self._listener = socket.create_server(
            (address, port),
            family=socket.AF_INET6 if six else socket.AF_INET,
            # :: is every address, also those of IPv4.
            dualstack_ipv6=six and socket.has_dualstack_ipv6(),
        )
        self.port: int = self._listener.getsockname()[1]
        self._routes = dict(routes)
        self._patience = patience
        # In the order of their coming.
        self._reading: dict[asyncio.StreamWriter, None] = {}
        self._answering = 0
        self._places = asyncio.Semaphore(MOST_REQUESTS)
        self._probe_places = asyncio.Semaphore(MOST_PROBES)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        asyncio.run(self._until_told())

    async def _until_told(self) -> None:
        serving = asyncio.create_task(self.serve())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    async def serve(self) -> None:
        """Serve until cancelled."""
        server = await asyncio.start_server(
            self._connected, sock=self._listener, limit=LONGEST_HEAD
        )
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that went away, or is cut off for being slow or at the program's end, is no error
        # of ours.
        ended = (OSError, asyncio.IncompleteReadError, asyncio.CancelledError)
        try:
            with contextlib.suppress(*ended):
                head = await self._head(reader, writer)
                answer = await self._answer(head)
                body = answer.body.encode(errors="backslashreplace")
                async with asyncio.timeout(self._patience):
                    writer.write(_head_of(answer, len(body)))
                    if not head.startswith(b"HEAD "):
                        writer.write(body)
                    writer.close()
                    await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def _head(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """A whole head; empty if it is too long."""
        if len(self._reading) >= MOST_CONNECTIONS:
            oldest = next(iter(self._reading))
            del self._reading[oldest]
            oldest.transport.abort()
        self._reading[writer] = None
        try:
            async with asyncio.timeout(self._patience):
                return await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return b""
        finally:
            self._reading.pop(writer, None)

    async def _answer(self, head: bytes) -> Answer:
        if not head:
            return Answer(f"a head is at most {LONGEST_HEAD} bytes\n", status=431)
        try:
            method, request = _read(head)
        except ValueError as error:
            return Answer(f"{error}\n", status=400)
        if method not in ("GET", "HEAD"):
            return Answer("there is GET and HEAD\n", status=405)
        route = self._routes.get(request.path)
        if route is None:
            return Answer(f"there is {' '.join(sorted(self._routes))}\n", status=404)
        if request.path in PROBES:
            return await _worked_out(route, request, self._probe_places)
        if self._answering >= MOST_CONNECTIONS:
            return Answer("too many requests wait\n", status=503)
        self._answering += 1
        try:
            return await _worked_out(route, request, self._places)
        finally:
            self._answering -= 1


async def _worked_out(route: Route, request: Request, places: asyncio.Semaphore) -> Answer:
    """What the route says, in a thread that a stop does not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Answer] = loop.create_future()

    def finish(answer: Answer) -> None:
        if not done.cancelled():
            done.set_result(answer)

    def work() -> None:
        try:
            answer = route(request)
        except Exception:
            # One bad answer must not end the program; its reason belongs into the log only.
            log.exception("GET %s", request.path)
            answer = Answer("failed, see the log\n", status=500)
        # The loop may have ended meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(finish, answer)

    async with places:
        threading.Thread(target=work, daemon=True).start()
        return await done


def _read(head: bytes) -> tuple[str, Request]:
    """The method, and the rest of a request.

    :raises ValueError: it is none
    """
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004
        raise ValueError(f"no request of HTTP/1: {first[:100]!a}")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"no header: {line[:100]!a}")
        headers[name.lower()] = value.strip()
    url = urllib.parse.urlsplit(words[1])
    query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    return words[0], Request(url.path, query, headers)


def _head_of(answer: Answer, length: int) -> bytes:
    status = http.HTTPStatus(answer.status)
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {length}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
