"""The API for publishing: `POST /events/<name>` responds when the event is stored."""

import asyncio
import contextlib
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from events import bus, rules
from events.consumers import Consumers
from events.metrics import Metrics

if TYPE_CHECKING:
    from nats.js import JetStreamContext

BODY_SECONDS = 10.0
"""Timeout of a request's body."""
MOST_BODY_BYTES = 32 * 2**20
"""Maximum bytes of the bodies of all concurrent requests."""

_REFRESH_SECONDS = 0.2


class Space:
    """Bytes of the stream that publishing may still use."""

    def __init__(self, stream: "JetStreamContext") -> None:
        self._stream = stream
        self._known = self._limit = 0
        self._since = 0
        self._refreshed = 0.0
        self._mutex = asyncio.Lock()

    async def take(self, size: int) -> bool:
        """Reserve space for a message; False if there is not enough.

        :raises nats.errors.Error: the bus did not respond
        """
        async with self._mutex:
            if (
                time.monotonic() - self._refreshed > _REFRESH_SECONDS
                or self._known + self._since + size > self._limit
            ):
                info = await self._stream.stream_info(rules.EVENTS)
                self._known, self._since = int(info.state.bytes), 0
                self._limit = rules.publishable(int(info.config.max_bytes or 0))
                self._refreshed = time.monotonic()
            if self._known + self._since + size > self._limit:
                return False
            self._since += size
            return True


class Front:
    """Accepts events from clients."""

    def __init__(
        self,
        name: str,
        accepts: Mapping[str, str],
        firsts: Mapping[str, Sequence[str]],
        stream: "JetStreamContext",
        consumers: Consumers,
        metrics: Metrics,
        longest: int,
    ) -> None:
        """Describe it.

        :param accepts: topic by name in the URL
        :param firsts: first steps by name
        :param longest: maximum bytes of an event's data on the bus
        """
        self._name = name
        self._accepts = accepts
        self._firsts = firsts
        self._stream = stream
        self._consumers = consumers
        self._metrics = metrics
        self._longest = longest
        self._space = Space(stream)
        self._body_bytes = 0

    async def publish(self, request: web.Request) -> web.Response:
        """POST /events/<name>: 202 once the event is stored."""
        name = request.match_info["name"]
        if name not in self._accepts:
            return answer(404, error=f"must be one of {', '.join(sorted(self._accepts)) or 'none'}")
        began = time.time()
        given = request.headers.get(rules.HEADER_ID) or request.headers.get(rules.HEADER_KEY)
        try:
            with self._counted() as body:
                await self._read(request, body)
                event, data = rules.published(
                    request.headers.get("content-type", ""), _plain(request, body), given
                )
                stored = rules.encoded(data, self._longest)
        except rules.TooLongError as error:
            return answer(413, error=str(error))
        except rules.BadEventError as error:
            return answer(400, error=str(error))
        except TimeoutError:
            return _last(answer(408, error=f"the body took more than {BODY_SECONDS:g} s"))
        except _BusyError:
            return _last(answer(503, error="too many request bodies at once"))
        except (aiohttp.ClientError, web.PayloadAccessError, OSError):
            return _last(answer(400, error="the body is truncated"))
        return await self._stored(name, event, stored, began)

    async def _stored(self, name: str, event: str, data: bytes, began: float) -> web.Response:
        topic = self._accepts[name]
        headers = {rules.HEADER_ID: event, "ce-time": _rfc3339(began)}
        try:
            if not await self._consumers.wanted(topic):
                return answer(503, error=f"{topic} has no subscription yet", id=event)
            if not await self._space.take(len(data) + rules.MOST_HEADER_BYTES // 16):
                return answer(503, error="not stored: the bus is full", id=event)
            known = await bus.publish(
                self._stream, f"{rules.EVENTS}.{topic}", data, f"{event}/{topic}", headers
            )
        except bus.BUS_ERRORS as error:
            return answer(503, error=f"not stored: {type(error).__name__}", id=event)
        if not known:
            self._metrics.published += 1
            await bus.keep(
                self._stream,
                rules.record("published", event, "", began, source=self._name, next=[
                    {"step": step, "kind": "required"} for step in self._firsts[name]]),
            )  # fmt: skip
        return answer(202, id=event, known=known)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[bytearray]:
        body = bytearray()
        try:
            yield body
        finally:
            self._body_bytes -= len(body)

    async def _read(self, request: web.Request, body: bytearray) -> None:
        """Read the complete body; count its bytes as they arrive."""
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.content.iter_any():
                body += piece
                self._body_bytes += len(piece)
                if len(body) > rules.MOST_BYTES:
                    raise rules.TooLongError(f"an event has at most {rules.MOST_BYTES} bytes")
                if self._body_bytes > MOST_BODY_BYTES:
                    raise _BusyError


class _BusyError(Exception):
    pass


def _plain(request: web.Request, body: bytearray) -> bytes:
    """The decompressed body, limited to the maximum size of an event."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return bytes(body)
    if encoding not in ("gzip", "deflate"):
        raise rules.BadEventError(f"Content-Encoding is {encoding}; must be gzip or deflate")
    # Detects gzip or zlib by the first bytes.
    decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS + 32)
    try:
        plain = decoder.decompress(bytes(body), rules.MOST_BYTES + 1)
    except zlib.error:
        raise rules.BadEventError(f"the body is not valid {encoding}") from None
    if len(plain) <= rules.MOST_BYTES and not decoder.eof:
        raise rules.BadEventError(f"the body's {encoding} is truncated")
    return plain


def answer(status: int, **content: object) -> web.Response:
    """A JSON response."""
    return web.json_response(content, status=status)


def _last(response: web.Response) -> web.Response:
    # The rest of the body is not read.
    response.force_close()
    return response


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
