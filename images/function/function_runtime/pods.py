"""Forwards requests unchanged to the function's pods."""

import contextlib
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from yarl import URL

from function_runtime import front, upstream
from function_runtime.answers import as_written
from function_runtime.identity import Identity

_CONNECT_SECONDS = 1.0
_LONGEST_LINE = 65536
_NO_BODY = ("GET", "HEAD", "OPTIONS", "DELETE")


class UnreachableError(Exception):
    """No connection: the pod has not received the request."""


class BrokenError(Exception):
    """A truncated response, or none: the pod may have processed the request."""


class PodResponse:
    """A pod's response, as it arrives."""

    def __init__(self, name: str, answer: aiohttp.ClientResponse) -> None:
        self._name = name
        self._answer = answer
        self.status = answer.status
        self.reason = answer.reason or ""
        raw = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in answer.raw_headers]
        length = [(k, v) for k, v in raw if k.lower() == "content-length"]
        self.headers = [*upstream.end_to_end(raw), *length]
        self.length = int(length[0][1]) if length else None
        """Its Content-Length, if it has one."""

    async def piece(self) -> bytes:
        """The next piece of the body; empty at the end.

        :raises BrokenError: the response is truncated
        """
        try:
            return await self._answer.content.readany()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _broken(self._name, error) from None

    async def whole(self) -> bytes:
        """The complete body."""
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)


class Pods:
    """All pods of one function."""

    def __init__(self, port: int, seconds: float) -> None:
        """Describe the pods.

        :param port: the port of each pod
        :param seconds: read timeout
        """
        self._port = port
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=seconds
        )
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def request(
        self, name: str, address: str, request: web.BaseRequest, ids: Identity, body: bytes
    ) -> AsyncIterator[PodResponse]:
        """Send a request to a pod.

        :raises UnreachableError: the pod has not received the request
        :raises BrokenError: the pod does not respond
        :raises TimeoutError: read timeout
        """
        # As a path, the target is neither parsed nor normalized.
        target = front.raw_target(request)
        url = URL.build(scheme="http", host=address, port=self._port, path=target, encoded=True)
        came = upstream.end_to_end(front.raw_headers(request))
        headers = [(k, as_written(v)) for k, v in came if k.lower() != "x-request-id"]
        try:
            answer = await self._opened().request(
                request.method,
                url,
                data=body if body or request.method not in _NO_BODY else None,
                headers=[*headers, ("X-Request-Id", ids.request_id)],
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UnreachableError(str(error)) from None
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(name, error) from None
        try:
            yield PodResponse(name, answer)
        finally:
            # An incomplete response is not read further.
            answer.close()

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # One connection a request: no stale keep-alive connection, so no request is retried.
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=self._timeout,
                # Cookies must not leak between clients.
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                max_line_size=_LONGEST_LINE,
                max_field_size=_LONGEST_LINE,
            )
        return self._session


def _broken(name: str, error: Exception) -> BrokenError:
    return BrokenError(f"{name}: {type(error).__name__}: {error}")
