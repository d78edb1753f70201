"""Answers, and how they are sent: with the headers that they were given, and none beside."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDict

SEND_SECONDS = 300.0
"""Longest that a client may take to read an answer."""

_GIVEN = web.ResponseKey("given", CIMultiDict[str])


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def refusal(status: int, said: str, *headers: tuple[str, str]) -> Answer:
    """An answer that is not the function's."""
    body = json.dumps({"error": said}).encode() + b"\n"
    kind = ("Content-Type", "application/json")
    return Answer(status, web.Response(status=status).reason or "", (kind, *headers), body)


def busy(said: str) -> Answer:
    """The answer to a request that has to come again."""
    return refusal(503, said, ("Retry-After", "1"))


def begun(
    status: int, reason: str, headers: Iterable[tuple[str, str]], *, last: bool = False
) -> web.StreamResponse:
    """The beginning of an answer that is sent in pieces.

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
    """Send a whole answer.

    :param headers: more headers
    :raises ConnectionError: the client has gone, or did not read it in SEND_SECONDS
    """
    # What is said of the length of no body (an answer to HEAD) stays; else it is counted.
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
    """Reset the connection, so that nobody takes half an answer for a whole one."""
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
    """A header's value as aiohttp writes it, in UTF-8: these are the bytes that were given.

    Other bytes are written in UTF-8 too, as the characters that they have in Latin-1.
    """
    try:
        return value.encode("latin-1").decode()
    except ValueError:
        return value


async def only_what_was_given(_: web.BaseRequest, response: web.StreamResponse) -> None:
    """Take back what aiohttp says of itself and guesses of others."""
    given = response.get(_GIVEN)
    if given is None:
        # It is aiohttp's own, about a request that is none.
        return
    for name in ("Server", "Content-Type"):
        if name not in given:
            response.headers.popall(name, None)
