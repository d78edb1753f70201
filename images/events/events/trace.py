"""`trace <id>`, `dead` and `replay <id>`: the path of an event, and dead letters."""

import json
import sys
from collections.abc import Iterable
from typing import Any

from nats.js import JetStreamContext, api

from events import bus, path, rules
from events.consumers import subscribed

_BATCH = 100
_FETCH_SECONDS = 5


async def messages(stream: JetStreamContext, name: str, subject: str) -> list[Any]:
    """All stored messages with a subject, read with an ephemeral consumer.

    :raises TimeoutError: the bus has more messages but does not deliver them
    """
    config = api.ConsumerConfig(
        filter_subject=subject,
        deliver_policy=api.DeliverPolicy.ALL,
        ack_policy=api.AckPolicy.NONE,
        inactive_threshold=30,
    )
    info = await stream.add_consumer(name, config)
    source = await stream.pull_subscribe_bind(info.name, stream=name)
    found: list[Any] = []
    missed = False
    # Queried each time: messages may expire meanwhile.
    while left := await _outstanding(stream, name, info.name, len(found)):
        try:
            found += await source.fetch(min(left, _BATCH), timeout=_FETCH_SECONDS)
        except TimeoutError:
            if missed:
                raise
            missed = True
        else:
            missed = False
    await source.unsubscribe()
    return found


async def _outstanding(stream: JetStreamContext, name: str, consumer: str, found: int) -> int:
    info = await stream.consumer_info(name, consumer)
    sent = info.delivered.consumer_seq if info.delivered else 0
    return int(info.num_pending or 0) + sent - found


async def show(event: str, as_json: bool) -> int:
    """Print the path of an event; the exit status is 1 without records of it."""
    _check(event)
    connection = await _connected("trace")
    found = await messages(
        connection.jetstream(timeout=10), rules.RECORDS, f"{rules.RECORDS}.{event}"
    )
    records = [json.loads(one.data) for one in found]
    if as_json:
        sys.stdout.write(json.dumps({"records": records, **path.state(records)}) + "\n")
    else:
        sys.stdout.write(path.text(event, records))
    await connection.close()
    return 0 if records else 1


async def _connected(name: str) -> Any:
    try:
        return await bus.connect(name, timeout=15)
    except ConnectionError as error:
        sys.exit(f"error: {error}")


def _check(event: str) -> None:
    try:
        rules.checked_id(event)
    except rules.BadEventError as error:
        sys.exit(f"error: {error}")


def _letter(message: Any) -> dict[str, Any]:
    headers = message.headers or {}
    return {
        "id": headers.get(rules.HEADER_ID),
        "path": headers.get(rules.HEADER_PATH, ""),
        "from": message.subject.removeprefix(f"{rules.DEAD}."),
        "topic": headers.get("dds-topic"),
        "attempts": int(headers.get("dds-attempts", 0)),
        "reason": headers.get("dds-reason"),
        "sequence": message.metadata.sequence.stream,
    }


def newest(letters: Iterable[dict[str, Any]]) -> set[int]:
    """Sequence numbers of the last dead letter of each event at each step.

    An event that was replayed and failed again has two; the last one replaces the first.
    """
    last = {(one["id"], one["from"], one["path"]): one["sequence"] for one in letters}
    return set(last.values())


async def dead(event: str | None, replay: bool) -> int:
    """Print the dead letters as JSON, one a line; with ``replay`` also publish them again.

    A replayed event has the same id and idempotency key as before, and all its attempts again. The
    dead letter stays, and ``replayed`` is whether the bus has stored the event. If not, ``why`` is
    the reason: the event has a later dead letter, this one was replayed within the deduplication
    window, or its topic has no subscription.
    """
    if event is not None:
        _check(event)
    connection = await _connected("dead")
    stream = connection.jetstream(timeout=10)
    messages_of = await messages(stream, rules.DEAD, f"{rules.DEAD}.>")
    pairs = [(message, _letter(message)) for message in messages_of]
    last = newest(letter for _, letter in pairs)
    for message, letter in pairs:
        if event is not None and letter["id"] != event:
            continue
        outcome: dict[str, Any] = {"replayed": False}
        if replay:
            why = (
                await _replayed(stream, message, letter)
                if letter["sequence"] in last
                else "there is a later dead letter"
            )
            outcome = {"replayed": False, "why": why} if why else {"replayed": True}
        sys.stdout.write(json.dumps({**letter, **outcome}) + "\n")
    await connection.close()
    return 0


async def _replayed(stream: JetStreamContext, message: Any, letter: dict[str, Any]) -> str:
    """Publish a dead letter's event; returns why the bus has not stored it, or an empty text."""
    if not await subscribed(stream, letter["topic"]):
        # The bus would acknowledge it, but not store it.
        return f"{letter['topic']} has no subscription"
    headers = {
        key: value
        for key, value in (message.headers or {}).items()
        if key in (rules.HEADER_ID, rules.HEADER_PATH, "ce-time")
    }
    # The dead letter's own key, so that a second replay of it is a duplicate.
    key = f"replay/{letter['sequence']}"
    subject = f"{rules.EVENTS}.{letter['topic']}"
    known = await bus.publish(stream, subject, message.data, key, headers)
    return "it was replayed recently" if known else ""
