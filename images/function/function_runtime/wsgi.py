"""Calls a WSGI application, which functions-framework makes of a function."""

import io
import itertools
import sys
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web

from function_runtime import front
from function_runtime.answers import Answer

HEADERS = "function_runtime.headers"
"""Key of the raw headers in the environment, for forwarding."""

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Write = Callable[[bytes], None]
Begin = Callable[[int, str, list[tuple[str, str]]], Write]

_EMPTY = (204, 304)


def environ(request: web.BaseRequest, body: bytes) -> dict[str, Any]:
    """A request's WSGI environment (PEP 3333)."""
    raw = front.raw_target(request)
    path, _, query = raw.partition("?")
    headers = front.raw_headers(request)
    given = request.headers.get("Host", "")
    host, _, port = given.rpartition(":")
    peer = request.transport.get_extra_info("peername") if request.transport else None
    made: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
        "QUERY_STRING": query,
        "RAW_URI": raw,
        "REQUEST_URI": raw,
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": host or given,
        "SERVER_PORT": port if host and port.isdigit() else "80",
        "SERVER_PROTOCOL": f"HTTP/{request.version.major}.{request.version.minor}",
        "REMOTE_ADDR": str(peer[0]) if peer else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        HEADERS: headers,
    }
    for key, value in headers:
        # A name with "_" could collide with another header.
        if "_" in key:
            continue
        name = key.upper().replace("-", "_")
        if name == "CONTENT_TYPE":
            made[name] = value
        elif name not in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
            name = f"HTTP_{name}"
            between = "; " if name == "HTTP_COOKIE" else ","
            made[name] = f"{made[name]}{between}{value}" if name in made else value
    return made


def run(application: Application, environment: dict[str, Any], begin: Begin) -> Answer | None:
    """Call the application. Returns a complete response; None if it was streamed.

    :param begin: called with status and headers of a streamed response; returns a function that
        sends its pieces
    """
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], error: Any = None) -> None:
        if started and error is None:
            raise RuntimeError("start_response was called twice")
        started[:] = [status, headers]

    result = application(environment, start_response)
    try:
        pieces = iter(result)
        first = next(pieces, b"")
        code, _, reason = started[0].partition(" ")
        status, headers = int(code), [*started[1]]
        length = next((v for k, v in headers if k.lower() == "content-length"), None)
        without = environment["REQUEST_METHOD"] == "HEAD" or status in _EMPTY
        if without or (length is not None and len(first) >= int(length)):
            return Answer(status, reason, tuple(headers), b"" if without else first)
        write = begin(status, reason, headers)
        for piece in itertools.chain((first,), pieces):
            if piece:
                write(piece)
        return None
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()
