"""The upstream service of a decorator: forwarded requests and their responses."""

import http.client
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from function_runtime import upstream
from function_runtime.json_text import parsed

MOST_DECODED_BYTES = 16 * 2**20
"""Maximum size of a decompressed response."""

# Set by the runtime for each request.
_OWN = frozenset({"host", "x-request-id", "traceparent"})
# Headers that describe the bytes of a body; not valid for a changed one.
_OF_THE_BYTES = frozenset({
    "accept-ranges", "content-digest", "content-encoding", "content-length", "content-md5",
    "content-range", "digest", "etag", "last-modified", "repr-digest",
})  # fmt: skip
# Detect gzip or zlib by the first bytes.
_EITHER = 32 + zlib.MAX_WBITS
_NO_BODY = ("GET", "HEAD", "OPTIONS", "DELETE")


class UnreachableError(Exception):
    """No response of the service, or a truncated one."""


@dataclass(frozen=True)
class ServiceResponse:
    """A response of the service."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004

    def forwarded_headers(self) -> list[tuple[str, str]]:
        """Headers for the client, with the body unchanged."""
        kept = [(k, v) for k, v in upstream.end_to_end(self.headers) if k.lower() not in _OWN]
        # A response to HEAD has a Content-Length without a body.
        return kept + [(k, v) for k, v in self.headers if k.lower() == "content-length"]

    def headers_of_new_body(self) -> list[tuple[str, str]]:
        """Headers for the client, with a changed body."""
        return [(k, v) for k, v in self.forwarded_headers() if k.lower() not in _OF_THE_BYTES]

    def json(self) -> Any:
        """The parsed body; an empty object if it is empty.

        :raises ValueError: it is invalid JSON, or cannot be decompressed
        """
        text = self._decoded()
        return parsed(text) if text.strip() else {}

    def _decoded(self) -> bytes:
        coding = next((v for k, v in self.headers if k.lower() == "content-encoding"), "identity")
        if coding.strip().lower() == "identity" or not self.body:
            return self.body
        if coding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
            raise ValueError(f"Content-Encoding {coding}")
        decoder = zlib.decompressobj(_EITHER)
        try:
            text = decoder.decompress(self.body, MOST_DECODED_BYTES)
        except zlib.error as error:
            raise ValueError(f"not {coding}: {error}") from error
        if not decoder.eof:
            raise ValueError(f"truncated, or more than {MOST_DECODED_BYTES} bytes")
        return text


class Service:
    """The upstream service."""

    def __init__(self, address: str, timeout: float) -> None:
        """Describe the service.

        :param address: ``host:port``
        :param timeout: read timeout in seconds
        """
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)
        self._timeout = timeout

    def call(
        self, method: str, raw: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> ServiceResponse:
        """Forward one request.

        :param raw: the raw request target
        :param headers: those of the client, and the request's ids
        :raises UnreachableError: no response, or a truncated one
        """
        # One connection a request: a Service balances connections, and none is stale.
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.putrequest(method, raw, skip_accept_encoding=True)
            for key, value in upstream.end_to_end(headers):
                if key.lower() != "host":
                    connection.putheader(key, value)
            if body or method not in _NO_BODY:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            return ServiceResponse(response.status, tuple(response.getheaders()), response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self._host}:{self._port}: {error}") from error
        finally:
            connection.close()


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON; unlike in Python, 1 and true differ."""
    return json.dumps(one) == json.dumps(other)
