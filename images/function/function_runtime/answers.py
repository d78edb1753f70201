"""HTTP responses, sent with exactly the given headers."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDict

SEND_SECONDS = 300.0
"""Timeout for sending a response."""

_GIVEN = web.ResponseKey("given", CIMultiDict[str])


@dataclass(frozen=True)
class Answer:
    """A complete response."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def refusal(status: int, message: str, *headers: tuple[str, str]) -> Answer:
    """An error response of the runtime itself."""
    body = json.dumps({"error": message}).encode() + b"\n"
    kind = ("Content-Type", "application/json")
    return Answer(status, web.Response(status=status).reason or "", (kind, *headers), body)


def busy(message: str) -> Answer:
    """A 503 for a request that the client should retry."""
    return refusal(503, message, ("Retry-After", "1"))


def begun(
    status: int, reason: str, headers: Iterable[tuple[str, str]], *, last: bool = False
) -> web.StreamResponse:
    """The start of a streamed response.

    :param last: whether the connection is closed afterwards
    """
    response = web.StreamResponse(status=status, reason=reason)
    return _with(response, headers, last)


async def send(
    request: web.BaseRequest,
    answer: Answer,
    headers: Iterable[tuple[str, str]] = (),
    *,
    last: bool = False,
) -> web.StreamResponse:
    """Send a complete response.

    :param headers: additional headers
    :raises ConnectionError: the client disconnected, or did not read it in SEND_SECONDS
    """
    # A response without a body, as to HEAD, keeps its Content-Length; otherwise it is computed.
    given = [*answer.headers, *headers]
    response = web.Response(body=answer.body or None, status=answer.status, reason=answer.reason)
    _with(response, given, last)
    if answer.body:
        response.headers["Content-Length"] = str(len(answer.body))
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        raise broken_off(request) from None
    return response


def broken_off(request: web.BaseRequest) -> ConnectionError:
    """Reset the connection, so that the client cannot take a truncated response for a complete one."""
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError("broken off")


def _with(
    response: web.StreamResponse, headers: Iterable[tuple[str, str]], last: bool
) -> web.StreamResponse:
    given = CIMultiDict((key, as_written(value)) for key, value in headers)
    response.headers.extend(given)
    response[_GIVEN] = given
    if last:
        response.force_close()
    return response


def as_written(value: str) -> str:
    """A header's value such that aiohttp, which writes UTF-8, sends the original bytes.

    Bytes that are not UTF-8 are sent as the UTF-8 of their Latin-1 characters.
    """
    try:
        return value.encode("latin-1").decode()
    except ValueError:
        return value


async def only_what_was_given(_: web.BaseRequest, response: web.StreamResponse) -> None:
    """Remove the headers that aiohttp adds."""
    given = response.get(_GIVEN)
    if given is None:
        # aiohttp's own response to an invalid request.
        return
    for name in ("Server", "Content-Type"):
        if name not in given:
            response.headers.popall(name, None)
