"""The service behind a decorator: asked with what came, and what it answered."""

import http.client
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from function_runtime import upstream
from function_runtime.json_text import parsed

MOST_DECODED_BYTES = 16 * 2**20
"""Longest answer that is decoded for the function."""

# Made anew for each request.
_OWN = frozenset({"host", "x-request-id", "traceparent"})
# What an answer says of its own bytes: no longer true where they were changed.
_OF_THE_BYTES = frozenset({
    "accept-ranges", "content-digest", "content-encoding", "content-length", "content-md5",
    "content-range", "digest", "etag", "last-modified", "repr-digest",
})  # fmt: skip
# gzip or zlib, whichever the first bytes say.
_EITHER = 32 + zlib.MAX_WBITS
_NO_BODY = ("GET", "HEAD", "OPTIONS", "DELETE")


class UnreachableError(Exception):
    """The service did not answer, or not to the end."""


@dataclass(frozen=True)
class Answered:
    """What the service answered."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def success(self) -> bool:
        """Whether it did what it was asked."""
        return 200 <= self.status < 300  # noqa: PLR2004

    def handed_on(self) -> list[tuple[str, str]]:
        """Its headers for the client, with the bytes as they came."""
        kept = [(k, v) for k, v in upstream.end_to_end(self.headers) if k.lower() not in _OWN]
        # An answer to HEAD says a length that it does not have.
        return kept + [(k, v) for k, v in self.headers if k.lower() == "content-length"]

    def changed(self) -> list[tuple[str, str]]:
        """Its headers for the client, with other bytes."""
        return [(k, v) for k, v in self.handed_on() if k.lower() not in _OF_THE_BYTES]

    def json(self) -> Any:
        """Its content; an empty object where it has none.

        :raises ValueError: it is no JSON, or cannot be decoded
        """
        text = self._decoded()
        return parsed(text) if text.strip() else {}

    def _decoded(self) -> bytes:
        coding = next((v for k, v in self.headers if k.lower() == "content-encoding"), "identity")
        if coding.strip().lower() == "identity" or not self.body:
            return self.body
        if coding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
            raise ValueError(f"encoded as {coding}")
        decoder = zlib.decompressobj(_EITHER)
        try:
            text = decoder.decompress(self.body, MOST_DECODED_BYTES)
        except zlib.error as error:
            raise ValueError(f"not {coding}: {error}") from error
        if not decoder.eof:
            raise ValueError(f"cut short, or more than {MOST_DECODED_BYTES} bytes")
        return text


class Service:
    """The service."""

    def __init__(self, address: str, timeout: float) -> None:
        """Describe it.

        :param address: ``host:port``
        :param timeout: seconds that it may be silent
        """
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)
        self._timeout = timeout

    def call(
        self, method: str, raw: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Answered:
        """Hand one request on.

        :param raw: the target as it came
        :param headers: those that came, and those that name the request
        :raises UnreachableError: there is no answer, or no whole one
        """
        # One connection a request: a Service spreads connections, and none is found closed.
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
            return Answered(response.status, tuple(response.getheaders()), response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self._host}:{self._port}: {error}") from error
        finally:
            connection.close()


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON; 1 and true are not, as they are in Python."""
    return json.dumps(one) == json.dumps(other)
