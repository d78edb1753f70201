"""`setup`: creates the streams and buckets, or updates their mutable settings."""

import asyncio
import json
import pathlib
import sys
from typing import Any

import nats.js.errors
from nats.js import JetStreamContext, api

from events import bus, rules

PLAN = "/etc/events/setup.json"
_DRAIN_SECONDS = 120
_MUTABLE = ("subjects", "discard", "max_bytes", "max_age", "duplicate_window")


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
            # An event is deleted once every subscription has acknowledged it.
            retention=api.RetentionPolicy.INTEREST,
            # A full stream refuses new events rather than delete undelivered ones.
            discard=api.DiscardPolicy.NEW,
            max_bytes=rules.stream_size(plan["events_mib"]),
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
    """Create or update the plan's streams and buckets. Existing ones keep their messages."""
    plan = json.loads(pathlib.Path(PLAN).read_text())
    # The server is ready when this starts, but its DNS name may take a moment.
    connection = await bus.connect("setup", timeout=60)
    stream = connection.jetstream(timeout=10)
    for config in streams(plan):
        await _applied(stream, config)
        bus.say("stream", name=config.name)
    for bucket in plan["buckets"]:
        await _applied(
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


async def _applied(stream: JetStreamContext, config: api.StreamConfig) -> None:
    try:
        now = (await stream.stream_info(config.name)).config
    except nats.js.errors.NotFoundError:
        await stream.add_stream(config)
        return
    limits = api.RetentionPolicy.LIMITS
    if (now.retention or limits) != (config.retention or limits):
        await _recreate(stream, config)
        return
    # A server without free space refuses even an update without changes.
    if any(getattr(now, name) != getattr(config, name) for name in _MUTABLE):
        await stream.update_stream(config)


async def _recreate(stream: JetStreamContext, config: api.StreamConfig) -> None:
    """Recreate a stream of an earlier version, because its retention cannot be changed.

    It also keeps delivered events, so it can be deleted once no event waits for delivery.
    """
    name = str(config.name)
    for _ in range(_DRAIN_SECONDS):
        consumers = await stream.consumers_info(name)
        if not any((one.num_pending or 0) + (one.num_ack_pending or 0) for one in consumers):
            await stream.delete_stream(name)
            await stream.add_stream(config)
            bus.say("stream recreated", name=name)
            return
        await asyncio.sleep(1)
    waiting = sorted(str(one.name) for one in consumers if one.num_pending or one.num_ack_pending)
    sys.exit(
        f"error: the stream {name} was created by an earlier version and has undelivered events "
        f"for {', '.join(waiting)}; deliver them, or delete these consumers, and try again"
    )
