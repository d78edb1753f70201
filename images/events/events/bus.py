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
"""What a bus that is away, or is full, leads to."""


def say(what: str, **more: Any) -> None:
    """One line of JSON for the log. Never give an event's data or a secret."""
    sys.stdout.write(json.dumps({"message": what, **more}) + "\n")


async def connect(name: str, patience: float = 0) -> Client:
    """Log in, with the user and password of the environment.

    :param patience: seconds in which the first connection is tried; 0 for ever
    :raises ConnectionError: there is none after that time; says why the last try failed
    """
    last: list[str] = []

    async def error(raised: Exception) -> None:
        last[:] = [f"{type(raised).__name__}: {raised}"]
        if not patience:
            say("bus", error=last[0])

    async def back() -> None:
        say("bus", reconnected=True)

    # It goes on by itself until it is connected, whatever is wrong.
    connecting = nats.connect(
        f"nats://{os.environ['BUS']}",
        name=name,
        user=os.environ.get("BUS_USER", "client"),
        password=pathlib.Path(os.environ.get("BUS_PASSWORD_FILE", PASSWORD)).read_text().strip(),
        connect_timeout=3,
        # A server that is back is wanted soon; it is never given up.
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        ping_interval=5,
        max_outstanding_pings=2,
        # Nothing is kept for later where nobody has acknowledged it.
        pending_size=0,
        error_cb=error,
        reconnected_cb=back,
    )
    try:
        return await asyncio.wait_for(connecting, patience or None)
    except TimeoutError:
        why = last[0] if last else "no answer"
        raise ConnectionError(f"no connection to the bus within {patience:g} s: {why}") from None


async def publish(
    stream: JetStreamContext, subject: str, data: bytes, key: str, headers: dict[str, str]
) -> bool:
    """Store a message; whether it was there already. Returns when it is on the server's volume."""
    acknowledged = await stream.publish(
        subject, data, timeout=5, headers={**headers, rules.HEADER_DEDUPLICATION: key}
    )
    return bool(acknowledged.duplicate)


async def keep(stream: JetStreamContext, entry: dict[str, Any]) -> None:
    """Store a record. One that is not stored is a gap in a trace, no more."""
    with contextlib.suppress(*BUS_ERRORS):
        await stream.publish(
            f"{rules.RECORDS}.{entry['id']}", json.dumps(entry).encode(), timeout=5
        )
