"""The connection to the bus."""

import asyncio
import contextlib
import json
import os
import pathlib
import sys
from typing import Any

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from events import rules

PASSWORD = "/etc/events-bus/password"  # noqa: S105 (a path)
BUS_ERRORS = (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError)
"""Errors of a bus that is unavailable or full."""


def say(what: str, **more: Any) -> None:
    """Log one line of JSON. Never pass an event's data or a secret."""
    sys.stdout.write(json.dumps({"message": what, **more}) + "\n")


async def connect(name: str, timeout: float = 0) -> Client:
    """Connect, with the user and password of the environment.

    :param timeout: seconds for the first connection; 0 for no timeout
    :raises ConnectionError: it timed out; the message has the reason of the last failure
    """
    last: list[str] = []

    async def error(raised: Exception) -> None:
        last[:] = [f"{type(raised).__name__}: {raised}"]
        if not timeout:
            say("bus", error=last[0])

    async def back() -> None:
        say("bus", reconnected=True)

    # It retries by itself until it is connected.
    connecting = nats.connect(
        f"nats://{os.environ['BUS']}",
        name=name,
        user=os.environ.get("BUS_USER", "client"),
        password=pathlib.Path(os.environ.get("BUS_PASSWORD_FILE", PASSWORD)).read_text().strip(),
        connect_timeout=3,
        # Reconnect soon after the server is back, and retry for ever.
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        ping_interval=5,
        max_outstanding_pings=2,
        # No message is buffered without an acknowledgement of the server.
        pending_size=0,
        error_cb=error,
        reconnected_cb=back,
    )
    try:
        return await asyncio.wait_for(connecting, timeout or None)
    except TimeoutError:
        why = last[0] if last else "no response"
        raise ConnectionError(f"no connection to the bus within {timeout:g} s: {why}") from None


async def publish(
    stream: JetStreamContext, subject: str, data: bytes, key: str, headers: dict[str, str]
) -> bool:
    """Store a message on the server's volume; returns whether it is a duplicate."""
    acknowledged = await stream.publish(
        subject, data, timeout=5, headers={**headers, rules.HEADER_DEDUPLICATION: key}
    )
    return bool(acknowledged.duplicate)


async def keep(stream: JetStreamContext, entry: dict[str, Any]) -> None:
    """Store a record. A failure is ignored: it only leaves a gap in a trace."""
    with contextlib.suppress(*BUS_ERRORS):
        await stream.publish(
            f"{rules.RECORDS}.{entry['id']}", json.dumps(entry).encode(), timeout=5
        )
