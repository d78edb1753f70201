"""A small HTTP server: GET and HEAD of a few paths, until SIGTERM.

A slow client occupies a connection and no thread: one event loop reads all request headers, and
only a complete request gets a thread. Each connection serves one request.
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

# Concurrent requests; more wait. The memory of a sidecar must not grow with the number of clients.
MOST_REQUESTS = 16
# The kubelet's probes have their own slots, which no other request can take. These routes do not
# block.
PROBES = frozenset({"/health", "/healthz", "/live", "/ready", "/started"})
MOST_PROBES = 4
# Connections with incomplete headers, and as many again with a complete request. One more of the
# former closes the oldest of them, one more of the latter gets a 503.
MOST_CONNECTIONS = 128
# Seconds to receive complete headers, and again to send the response.
TIMEOUT_SECONDS = 10.0
LONGEST_HEAD = 16 << 10


@dataclasses.dataclass(frozen=True)
class Request:
    """An HTTP request."""

    path: str
    query: Mapping[str, str]
    """The last value of each name."""
    headers: Mapping[str, str]
    """By lower-case name."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    body: str
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


Route = Callable[[Request], Answer]


def as_json(value: Any, status: int = 200) -> Answer:
    """A JSON response."""
    return Answer(json.dumps(value, indent=1) + "\n", "application/json", status)


class Server:
    """Serves the routes at one address."""

    def __init__(
        self, address: str, port: int, routes: Mapping[str, Route], timeout: float = TIMEOUT_SECONDS
    ) -> None:
        """Bind the address; raises OSError if it is in use.

        :param timeout: seconds to receive complete headers, and to send the response
        """
        six = ":" in address
        self._listener = socket.create_server(
            (address, port),
            family=socket.AF_INET6 if six else socket.AF_INET,
            # :: is every address, IPv4 included.
            dualstack_ipv6=six and socket.has_dualstack_ipv6(),
        )
        self.port: int = self._listener.getsockname()[1]
        self._routes = dict(routes)
        self._timeout = timeout
        # Oldest first.
        self._reading: dict[asyncio.StreamWriter, None] = {}
        self._answering = 0
        self._slots = asyncio.Semaphore(MOST_REQUESTS)
        self._probe_slots = asyncio.Semaphore(MOST_PROBES)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        asyncio.run(self._until_signal())

    async def _until_signal(self) -> None:
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
        # A client that disconnects, times out, or is disconnected at shutdown is not an error.
        ended = (OSError, asyncio.IncompleteReadError, asyncio.CancelledError)
        try:
            with contextlib.suppress(*ended):
                head = await self._head(reader, writer)
                answer = await self._answer(head)
                body = answer.body.encode(errors="backslashreplace")
                async with asyncio.timeout(self._timeout):
                    writer.write(_head_of(answer, len(body)))
                    if not head.startswith(b"HEAD "):
                        writer.write(body)
                    writer.close()
                    await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def _head(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """The complete headers; empty if they are too long."""
        if len(self._reading) >= MOST_CONNECTIONS:
            oldest = next(iter(self._reading))
            del self._reading[oldest]
            oldest.transport.abort()
        self._reading[writer] = None
        try:
            async with asyncio.timeout(self._timeout):
                return await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return b""
        finally:
            self._reading.pop(writer, None)

    async def _answer(self, head: bytes) -> Answer:
        if not head:
            return Answer(f"headers must be at most {LONGEST_HEAD} bytes\n", status=431)
        try:
            method, request = _read(head)
        except ValueError as error:
            return Answer(f"{error}\n", status=400)
        if method not in ("GET", "HEAD"):
            return Answer("only GET and HEAD are supported\n", status=405)
        route = self._routes.get(request.path)
        if route is None:
            return Answer(f"the paths are {' '.join(sorted(self._routes))}\n", status=404)
        if request.path in PROBES:
            return await _in_thread(route, request, self._probe_slots)
        if self._answering >= MOST_CONNECTIONS:
            return Answer("too many requests are waiting\n", status=503)
        self._answering += 1
        try:
            return await _in_thread(route, request, self._slots)
        finally:
            self._answering -= 1


async def _in_thread(route: Route, request: Request, slots: asyncio.Semaphore) -> Answer:
    """The route's response, from a thread that a shutdown does not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Answer] = loop.create_future()

    def finish(answer: Answer) -> None:
        if not done.cancelled():
            done.set_result(answer)

    def work() -> None:
        try:
            answer = route(request)
        except Exception:
            # A failed request must not end the program; the reason is only logged.
            log.exception("GET %s", request.path)
            answer = Answer("failed, see the log\n", status=500)
        # The loop may be closed by now.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(finish, answer)

    async with slots:
        threading.Thread(target=work, daemon=True).start()
        return await done


def _read(head: bytes) -> tuple[str, Request]:
    """The method, and the rest of a request.

    :raises ValueError: an invalid request
    """
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004
        raise ValueError(f"not an HTTP/1 request: {first[:100]!a}")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"not a header: {line[:100]!a}")
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
