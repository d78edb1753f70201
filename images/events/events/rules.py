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

_ID = re.compile(r"[A-Za-z0-9][-_A-Za-z0-9]{0,63}")


class BadEventError(Exception):
    """Something was published that is no event."""


def new_id() -> str:
    """An id for an event that came without one."""
    return secrets.token_hex(8)


def checked_id(text: str) -> str:
    """The id, if it can be one: it becomes part of subjects and headers."""
    if not _ID.fullmatch(text):
        raise BadEventError("an event's id has 1 to 64 letters, digits, dashes and underscores")
    return text


def idempotency_key(event: str, path: str) -> str:
    """The same for every try to deliver one event to one step on one way."""
    return f"{event}/{path}"


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


def onward(data: Any, answer: bytes) -> Any:
    """The data of the next event: an answer that is a JSON object adds to what came in."""
    try:
        given = json.loads(answer) if answer else None
    except ValueError:
        return data
    if isinstance(given, dict) and isinstance(data, dict):
        return {**data, **given}
    return data


def published(content_type: str, body: bytes, event: str | None) -> tuple[str, Any]:
    """Id and data of what was posted: plain JSON, or a CloudEvent in structured form.

    :param event: the id that a header gave
    """
    if len(body) > MOST_BYTES:
        raise BadEventError(f"an event has at most {MOST_BYTES} bytes")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise BadEventError("an event is JSON") from None
    if content_type.partition(";")[0].strip().lower() == "application/cloudevents+json":
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
