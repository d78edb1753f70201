"""`codes`: one-time codes with an end and a number of attempts, in a bucket of the bus.

POST /codes        {"user": ..., "key": ...}   makes the user's code, which replaces a former one.
                                               The same key again gives the same code again, and
                                               410 when that has ended, was used or was replaced.
                   {..., "time": RFC 3339}     when it was asked; 410 when that is longer ago than a
                                               code lasts. Without it, now.
POST /codes/check  {"user": ..., "code": ...}  200 if it is right, which uses it up; else 403 with
                                               the reason: wrong, expired, none, too many attempts.

The answers to a check never say what would have been right. Environment: BUCKET (codes),
CODE_SECONDS (300), CODE_ATTEMPTS (5), DIGITS (6).
"""

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from datetime import datetime
from typing import Any

import nats.js.errors
from aiohttp import web

from events import bus
from events.onetime import Code, judged, made

_TRIES = 20
_LONGEST = 256


class ConflictError(Exception):
    """Somebody else has changed it meanwhile."""


class Codes:
    """The service."""

    def __init__(self, bucket: Any, seconds: float, attempts: int, count: int) -> None:
        self._bucket = bucket
        self._seconds = seconds
        self._attempts = attempts
        self._count = count

    async def make(self, request: web.Request) -> web.Response:
        """POST /codes."""
        user, key, when = await _words(request, "user", "key", time="")
        event = _moment(when)
        for _ in range(_TRIES):
            now, revision = await self._read(user)
            code = made(now, key, event, time.time(), self._seconds, self._count)
            if code is None:
                return web.json_response({"error": "the code of this key has ended"}, status=410)
            if code is not now:
                try:
                    await self._write(user, code, revision)
                except ConflictError:
                    continue
            return web.json_response({"code": code.code, "ends": code.ends})
        raise web.HTTPServiceUnavailable

    async def check(self, request: web.Request) -> web.Response:
        """POST /codes/check."""
        user, code = await _words(request, "user", "code")
        for _ in range(_TRIES):
            now, revision = await self._read(user)
            verdict, then = judged(now, code, time.time(), self._attempts)
            if then is not None:
                try:
                    # Whoever is slower by a moment does not get a try for nothing.
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
    # Names of users have letters that a key of a bucket may not have.
    return hashlib.sha256(user.encode()).hexdigest()


def _moment(text: str) -> float:
    if not text:
        return time.time()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise web.HTTPBadRequest(text='"time" is a time with its zone, as in RFC 3339')
    return moment.timestamp()


async def _words(request: web.Request, *names: str, **optional: str) -> list[str]:
    try:
        given = await request.json()
        words = [given[name] for name in names]
        words += [given[name] for name in optional if name in given]
    except (ValueError, KeyError, TypeError, RecursionError):
        words = []
    if not words or not all(isinstance(one, str) and 0 < len(one) <= _LONGEST for one in words):
        raise web.HTTPBadRequest(text=f"a JSON object with {' and '.join(names)}")
    return [*words, *optional.values()][: len(names) + len(optional)]


@web.middleware
async def _unstored(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except bus.BUS_ERRORS as error:
        return web.json_response({"error": type(error).__name__}, status=503)
    return response


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
            f"error: the bucket keeps a value for {kept:g} s; with CODE_SECONDS {seconds:g} it must "
            f"be at least {2 * seconds:g}: a code that is forgotten would be made again"
        )
    codes = Codes(
        bucket,
        seconds,
        int(os.environ.get("CODE_ATTEMPTS", "5")),
        int(os.environ.get("DIGITS", "6")),
    )

    async def ready(_: web.Request) -> web.Response:
        return web.Response(status=200 if connection.is_connected else 503)

    async def live(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(middlewares=[_unstored], client_max_size=4096)
    app.router.add_post("/codes", codes.make)
    app.router.add_post("/codes/check", codes.check)
    app.router.add_get("/healthz", live)
    app.router.add_get("/readyz", ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=8080).start()
    await stopping.wait()
    await runner.cleanup()
    await connection.close()
    return 0
