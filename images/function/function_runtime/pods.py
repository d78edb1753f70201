"""The function's pods, asked over HTTP: a request goes to one of them as it came."""

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
    """No connection to it: it has not seen the request."""


class BrokenError(Exception):
    """It broke its answer off, or gave none: it may have done its work."""


class Answering:
    """A pod's answer, as it comes."""

    def __init__(self, name: str, answer: aiohttp.ClientResponse) -> None:
        self._name = name
        self._answer = answer
        self.status = answer.status
        self.reason = answer.reason or ""
        raw = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in answer.raw_headers]
        length = [(k, v) for k, v in raw if k.lower() == "content-length"]
        self.headers = [*upstream.end_to_end(raw), *length]
        self.length = int(length[0][1]) if length else None
        """Its bytes, if it says so."""

    async def piece(self) -> bytes:
        """What comes next; nothing at the end.

        :raises BrokenError: it does not come
        """
        try:
            return await self._answer.content.readany()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _broken(self._name, error) from None

    async def whole(self) -> bytes:
        """All that comes."""
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)


class Pods:
    """All pods of one function."""

    def __init__(self, port: int, seconds: float) -> None:
        """Describe how they are asked.

        :param port: where each of them answers
        :param seconds: longest that one may be silent
        """
        self._port = port
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=seconds
        )
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def asked(
        self, name: str, address: str, request: web.BaseRequest, who: Identity, body: bytes
    ) -> AsyncIterator[Answering]:
        """Ask one of them.

        :raises UnreachableError: it has not seen the request
        :raises BrokenError: it does not answer
        :raises TimeoutError: it is silent
        """
        # In the path alone, nothing of it is parsed and written anew.
        target = front.raw_target(request)
        url = URL.build(scheme="http", host=address, port=self._port, path=target, encoded=True)
        came = upstream.end_to_end(front.raw_headers(request))
        headers = [(k, as_written(v)) for k, v in came if k.lower() != "x-request-id"]
        try:
            answer = await self._opened().request(
                request.method,
                url,
                data=body if body or request.method not in _NO_BODY else None,
                headers=[*headers, ("X-Request-Id", who.request_id)],
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UnreachableError(str(error)) from None
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(name, error) from None
        try:
            yield Answering(name, answer)
        finally:
            # One that was not read to its end must not be read on.
            answer.close()

    async def close(self) -> None:
        """Ask none any more."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # A connection for each request: none is found closed, nothing is sent twice.
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=self._timeout,
                # One caller's cookies are no other's.
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                max_line_size=_LONGEST_LINE,
                max_field_size=_LONGEST_LINE,
            )
        return self._session


def _broken(name: str, error: Exception) -> BrokenError:
    return BrokenError(f"{name}: {type(error).__name__}: {error}")
