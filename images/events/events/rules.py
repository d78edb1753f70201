"""Names, backoff, routing and the record of what happened: all that needs no connection."""

import json
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

EVENTS, RECORDS, DEAD = "events", "records", "dead"
"""The streams, and the first word of their subjects."""

HEADER_ID, HEADER_PATH, HEADER_KEY = "ce-id", "dds-path", "idempotency-key"
HEADER_DEDUPLICATION = "Nats-Msg-Id"
MOST_BYTES = 512 * 1024
"""Longest body of an event that is published, and of a step's answer."""
MOST_HEADER_BYTES = 16 * 1024
"""What a message's headers may take of the server's longest message."""

_MIB = 2**20
_ID = re.compile(r"[A-Za-z0-9][-_A-Za-z0-9]{0,63}")


class BadEventError(Exception):
    """Something is no event."""


class TooLongError(BadEventError):
    """An event has more bytes than one may have."""


class HopelessError(Exception):
    """A step has answered with what cannot go on, however often it is asked. Says why."""


def room(events_mib: int) -> int:
    """Bytes of a stream that takes ``events_mib`` of published events.

    What a step passes on must find room when publishing has filled the rest: nothing would ever be
    delivered, and so make room, where every event waits for room for the next one.
    """
    return events_mib * _MIB + max(events_mib * _MIB // 4, _MIB)


def publishable(stream_bytes: int) -> int:
    """The bytes that publishing may fill, of a stream with ``room``."""
    return max(stream_bytes * 4 // 5, 0) if stream_bytes > 5 * _MIB else stream_bytes - _MIB


def encoded(data: Any, longest: int) -> bytes:
    """Data as JSON, in no more bytes than it needs.

    :raises BadEventError: a number that JSON does not have
    :raises TooLongError: it has more than ``longest`` bytes
    """
    try:
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise BadEventError("an event's numbers are finite") from None
    try:
        stored = text.encode()
    except UnicodeEncodeError:
        # Half of a pair of surrogates has no UTF-8, but an escape.
        stored = json.dumps(data, separators=(",", ":")).encode()
    if len(stored) > longest:
        raise TooLongError(f"its data has {len(stored)} bytes, an event's at most {longest}")
    return stored


def decoded(text: bytes) -> Any:
    """Data of JSON.

    :raises BadEventError: it is none, or too deep to be read
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise BadEventError("its JSON is nested too deeply") from None
    except ValueError:
        raise BadEventError("it is no JSON") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


def consumer(subscriber: str, subscription: str) -> str:
    """What the bus calls the place of a subscription.

    The names are DNS labels: with a dash between them, ``a-b`` of ``c`` and ``b`` of ``c-a`` would
    share one place, and each would get half of the events.
    """
    return f"{subscriber}_{subscription}"


def new_id() -> str:
    """An id for an event that came without one."""
    return secrets.token_hex(8)


def checked_id(text: str) -> str:
    """The id, if it can be one: it becomes part of subjects and headers."""
    if not _ID.fullmatch(text):
        raise BadEventError("an event's id has 1 to 64 letters, digits, dashes and underscores")
    return text


def idempotency_key(event: str, source: str, path: str) -> str:
    """The same for every try to deliver one event to one step on one way.

    :param source: the subscriber or pipeline: others on the same bus may have steps of this name
    """
    return f"{event}/{source}/{path}"


def longer(path: str, step: str) -> str:
    """The way of an event after one more step."""
    return f"{path}/{step}" if path else step


@dataclass(frozen=True)
class Subscription:
    """One step: where its events come from, where they are delivered, and what follows."""

    name: str
    topic: str
    url: str
    attempts: int = 8
    first_delay: float = 1.0
    factor: float = 2.0
    longest_delay: float = 60.0
    timeout: float = 30.0
    in_flight: int = 4
    required: dict[str, str] = field(default_factory=dict)
    """Topic by step."""
    optional: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Field and topic by step."""

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Subscription":
        """From the configuration file, which writes tuples as lists."""
        optional = {step: (pair[0], pair[1]) for step, pair in given.get("optional", {}).items()}
        return cls(**{**given, "optional": optional})

    def delay(self, attempt: int) -> float:
        """Seconds to wait after a failed attempt, counted from 1."""
        # A power may exceed what a float holds long before anybody waits that long.
        grown = self.first_delay
        for _ in range(attempt - 1):
            grown = min(grown * self.factor, self.longest_delay)
        return min(grown, self.longest_delay)

    def following(self, data: Any) -> list[dict[str, str]]:
        """The steps that an event with this data goes on to, in their order."""
        chosen = [
            {"step": step, "topic": topic, "kind": "required"}
            for step, topic in self.required.items()
        ]
        for step, (key, topic) in self.optional.items():
            if isinstance(data, dict) and data.get(key) is not None:
                chosen.append({"step": step, "topic": topic, "kind": "optional"})
        return chosen


def onward(data: Any, answer: bytes, kind: str = "") -> Any:
    """The data of the next event: an answer that is a JSON object adds to what came in.

    :param kind: the answer's media type
    :raises HopelessError: an answer that says it is JSON and is none
    """
    try:
        given = decoded(answer) if answer else None
    except BadEventError as error:
        # Thanks, or a page, is no part of an event; half a document must not be taken for that.
        if answer.lstrip()[:1] in (b"{", b"[") or media_type(kind).endswith("json"):
            raise HopelessError(f"the step's answer cannot be read: {error}") from None
        return data
    if isinstance(given, dict) and isinstance(data, dict):
        return {**data, **given}
    return data


def media_type(content_type: str) -> str:
    """A content type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def published(content_type: str, body: bytes, event: str | None) -> tuple[str, Any]:
    """Id and data of what was posted: plain JSON, or a CloudEvent in structured form.

    :param event: the id that a header gave
    :raises TooLongError: the body has too many bytes
    :raises BadEventError: it is no event
    """
    if len(body) > MOST_BYTES:
        raise TooLongError(f"an event has at most {MOST_BYTES} bytes")
    try:
        data = decoded(body)
    except BadEventError as error:
        raise BadEventError(f"an event is JSON; {error}") from None
    if media_type(content_type) == "application/cloudevents+json":
        if not isinstance(data, dict) or not isinstance(data.get("id"), str):
            raise BadEventError("a CloudEvent is a JSON object with an id")
        event, data = data["id"], data.get("data")
    return checked_id(event) if event else new_id(), data


def record(outcome: str, event: str, path: str, began: float, **more: Any) -> dict[str, Any]:
    """What happened to an event at a step.

    :param outcome: ``published``, ``ok``, ``failed`` or ``dead``
    :param began: Unix seconds
    """
    return {
        "outcome": outcome,
        "id": event,
        "path": path,
        "at": round(began, 6),
        "ms": round((time.time() - began) * 1000, 1),
        **more,
    }
