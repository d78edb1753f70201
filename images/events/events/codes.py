"""`codes`: one-time codes with an expiry and a limit of attempts, in a bucket of the bus.

POST /codes        {"user": ..., "key": ...}   creates the user's code, which replaces a former one.
                                               The same key returns the same code, and 410 once that
                                               has expired, was used or was replaced.
                   {..., "time": RFC 3339}     time of the request; 410 if that is longer ago than a
                                               code is valid. Defaults to now.
                                               A key has at most 4096 characters: a pipeline's grows
                                               by the name of each step. A user, a code and a time
                                               have at most 256.
POST /codes/check  {"user": ..., "code": ...}  200 if it is right, which uses it up; else 403 with
                                               the reason: wrong, expired, none, too many attempts.

An invalid body is 400, and a body that does not arrive within 10 s is 408.
A response to a check never contains the right code. Environment: BUCKET (codes),
CODE_SECONDS (300), CODE_ATTEMPTS (5), DIGITS (6).
"""

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

import aiohttp
import nats.js.errors
from aiohttp import web

from events import bus
from events.front import BODY_SECONDS
from events.onetime import Code, judged, made

_TRIES = 20
_LONGEST = 256
_LONGEST_KEY = 4096
_MOST_BODY = 32 * 1024


class ConflictError(Exception):
    """The value was changed concurrently."""


class Codes:
    """The service."""

    def __init__(self, bucket: Any, seconds: float, attempts: int, count: int) -> None:
        self._bucket = bucket
        self._seconds = seconds
        self._attempts = attempts
        self._count = count

    async def make(self, request: web.Request) -> web.Response:
        """POST /codes."""
        given = await _words(request, "user", "key", time="")
        user, key, event = given["user"], _kept(given["key"]), _moment(given["time"])
        for _ in range(_TRIES):
            now, revision = await self._read(user)
            code = made(now, key, event, time.time(), self._seconds, self._count)
            if code is None:
                return web.json_response(
                    {"error": "the code of this key has expired, was used or was replaced"},
                    status=410,
                )
            if code is not now:
                try:
                    await self._write(user, code, revision)
                except ConflictError:
                    continue
            return web.json_response({"code": code.code, "ends": code.ends})
        raise web.HTTPServiceUnavailable

    async def check(self, request: web.Request) -> web.Response:
        """POST /codes/check."""
        given = await _words(request, "user", "code")
        user, code = given["user"], given["code"]
        for _ in range(_TRIES):
            now, revision = await self._read(user)
            verdict, then = judged(now, code, time.time(), self._attempts)
            if then is not None:
                try:
                    # A concurrent check must count as an attempt.
                    await self._write(user, then, revision)
                except ConflictError:
                    continue
            if verdict == "right":
                return web.json_response({"ok": True})
            return web.json_response({"ok": False, "reason": verdict}, status=403)
        raise web.HTTPServiceUnavailable

    async def _read(self, user: str) -> tuple[Code | None, int]:
        try:
            entry = await self._bucket.get(_place(user))
        except nats.js.errors.KeyDeletedError as error:
            return None, int(error.entry.revision or 0)
        except nats.js.errors.KeyNotFoundError:
            return None, 0
        return Code(**json.loads(entry.value)), int(entry.revision)

    async def _write(self, user: str, code: Code, revision: int) -> None:
        try:
            await self._bucket.update(_place(user), json.dumps(asdict(code)).encode(), revision)
        except nats.js.errors.KeyWrongLastSequenceError:
            raise ConflictError from None


def _place(user: str) -> str:
    # User names may contain characters that are invalid in a bucket's keys.
    return hashlib.sha256(user.encode()).hexdigest()


def _kept(key: str) -> str:
    # The keys of many codes are stored; only a long one is hashed.
    return key if len(key) <= _LONGEST else hashlib.sha256(key.encode()).hexdigest()


def _moment(text: str) -> float:
    if not text:
        return time.time()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise web.HTTPBadRequest(text='"time" must be an RFC 3339 time with a time zone')
    return moment.timestamp()


async def _words(request: web.Request, *names: str, **optional: str) -> dict[str, str]:
    """String members of the request's JSON object.

    :param optional: optional names with their defaults
    """
    given = await _object(request)
    words = {**optional, **{name: given[name] for name in (*names, *optional) if name in given}}
    for name in (*names, *(one for one in optional if one in given)):
        most = _LONGEST_KEY if name == "key" else _LONGEST
        if not _is_text(words.get(name), most):
            raise web.HTTPBadRequest(text=f'"{name}" must be a string of 1 to {most} characters')
    return words


def _is_text(word: Any, most: int) -> bool:
    if not isinstance(word, str) or not 0 < len(word) <= most:
        return False
    try:
        word.encode()
    except UnicodeEncodeError:
        # A lone surrogate, which JSON allows.
        return False
    return True


async def _object(request: web.Request) -> dict[str, Any]:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            given = json.loads(await request.read())
    except TimeoutError:
        late = web.HTTPRequestTimeout(text=f"the body took more than {BODY_SECONDS:g} s")
        # The rest of the body is not read.
        late.force_close()
        raise late from None
    except (ValueError, RecursionError):
        given = None
    except (aiohttp.ClientError, web.PayloadAccessError, OSError):
        raise web.HTTPBadRequest(text="the body is truncated") from None
    if not isinstance(given, dict):
        raise web.HTTPBadRequest(text="the body must be a JSON object")
    return given


@web.middleware
async def _unstored(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except bus.BUS_ERRORS as error:
        return web.json_response({"error": type(error).__name__}, status=503)
    return response


def served(codes: Codes, connected: Callable[[], bool]) -> web.AppRunner:
    """The service, and its probes.

    :param connected: whether the bus is connected
    """

    async def ready(_: web.Request) -> web.Response:
        return web.Response(status=200 if connected() else 503)

    async def live(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(middlewares=[_unstored], client_max_size=_MOST_BODY)
    app.router.add_post("/codes", codes.make)
    app.router.add_post("/codes/check", codes.check)
    app.router.add_get("/healthz", live)
    app.router.add_get("/readyz", ready)
    # A compressed body is refused as invalid JSON.
    return web.AppRunner(app, access_log=None, auto_decompress=False)


async def run() -> int:
    """Serve until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    connection = await bus.connect("codes")
    bucket = await connection.jetstream(timeout=5).key_value(os.environ.get("BUCKET", "codes"))
    seconds = float(os.environ.get("CODE_SECONDS", "300"))
    kept = (await bucket.status()).ttl
    if kept and kept < 2 * seconds:
        sys.exit(
            f"error: the bucket's TTL is {kept:g} s; with CODE_SECONDS {seconds:g} it must be at "
            f"least {2 * seconds:g}: an expired key could get a second code"
        )
    codes = Codes(
        bucket,
        seconds,
        int(os.environ.get("CODE_ATTEMPTS", "5")),
        int(os.environ.get("DIGITS", "6")),
    )

    runner = served(codes, lambda: bool(connection.is_connected))
    await runner.setup()
    await web.TCPSite(runner, port=8080).start()
    await stopping.wait()
    await runner.cleanup()
    await connection.close()
    return 0
