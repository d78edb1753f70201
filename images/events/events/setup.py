"""`setup`: makes the streams and buckets, or changes what of them may be changed."""

import asyncio
import json
import pathlib
import sys
from typing import Any

import nats.js.errors
from nats.js import JetStreamContext, api

from events import bus, rules

PLAN = "/etc/events/setup.json"
_EMPTIED_SECONDS = 120
_CHANGEABLE = ("subjects", "discard", "max_bytes", "max_age", "duplicate_window")


def streams(plan: dict[str, Any]) -> list[api.StreamConfig]:
    """The three streams of a bus."""
    mebi = 2**20
    common: dict[str, Any] = {
        "storage": api.StorageType.FILE,
        "num_replicas": 1,
        "duplicate_window": plan["duplicate_seconds"],
        "max_age": plan["keep_hours"] * 3600,
    }
    return [
        api.StreamConfig(
            name=rules.EVENTS,
            subjects=[f"{rules.EVENTS}.>"],
            # What every subscription has acknowledged makes room at once.
            retention=api.RetentionPolicy.INTEREST,
            # Full, it refuses what is new rather than forget what nobody has got yet.
            discard=api.DiscardPolicy.NEW,
            max_bytes=rules.room(plan["events_mib"]),
            **common,
        ),
        api.StreamConfig(
            name=rules.DEAD,
            subjects=[f"{rules.DEAD}.>"],
            discard=api.DiscardPolicy.NEW,
            max_bytes=plan["dead_mib"] * mebi,
            **{**common, "max_age": plan["keep_dead_hours"] * 3600},
        ),
        api.StreamConfig(
            name=rules.RECORDS,
            subjects=[f"{rules.RECORDS}.>"],
            discard=api.DiscardPolicy.OLD,
            max_bytes=plan["records_mib"] * mebi,
            **common,
        ),
    ]


async def run() -> int:
    """Make what the plan has. What is there already keeps its messages."""
    plan = json.loads(pathlib.Path(PLAN).read_text())
    # The server is ready when this starts, but its name may take a moment.
    connection = await bus.connect("setup", patience=60)
    stream = connection.jetstream(timeout=10)
    for config in streams(plan):
        await _made(stream, config)
        bus.say("stream", name=config.name)
    for bucket in plan["buckets"]:
        await _made(
            stream,
            api.StreamConfig(
                name=f"KV_{bucket['name']}",
                subjects=[f"$KV.{bucket['name']}.>"],
                storage=api.StorageType.FILE,
                num_replicas=1,
                discard=api.DiscardPolicy.NEW,
                max_age=bucket["seconds"],
                max_msgs_per_subject=1,
                max_bytes=bucket["mb"] * 2**20,
                allow_rollup_hdrs=True,
                deny_delete=True,
                allow_direct=True,
                duplicate_window=min(bucket["seconds"], 120),
            ),
        )
        bus.say("bucket", name=bucket["name"])
    await connection.drain()
    return 0


async def _made(stream: JetStreamContext, config: api.StreamConfig) -> None:
    try:
        now = (await stream.stream_info(config.name)).config
    except nats.js.errors.NotFoundError:
        await stream.add_stream(config)
        return
    limits = api.RetentionPolicy.LIMITS
    if (now.retention or limits) != (config.retention or limits):
        await _replaced(stream, config)
        return
    # Not asked without need: a server whose room is given away refuses even what changes nothing.
    if any(getattr(now, name) != getattr(config, name) for name in _CHANGEABLE):
        await stream.update_stream(config)


async def _replaced(stream: JetStreamContext, config: api.StreamConfig) -> None:
    """Make a stream of an earlier version anew, for its retention cannot be changed.

    It keeps what was delivered as well, so it may go as soon as nothing waits for delivery.
    """
    name = str(config.name)
    for _ in range(_EMPTIED_SECONDS):
        places = await stream.consumers_info(name)
        if not any((one.num_pending or 0) + (one.num_ack_pending or 0) for one in places):
            await stream.delete_stream(name)
            await stream.add_stream(config)
            bus.say("stream made anew", name=name)
            return
        await asyncio.sleep(1)
    waiting = sorted(str(one.name) for one in places if one.num_pending or one.num_ack_pending)
    sys.exit(
        f"error: the stream {name} was made by an earlier version and still has undelivered events "
        f"for {', '.join(waiting)}; let them be delivered, or delete these consumers, and try again"
    )
