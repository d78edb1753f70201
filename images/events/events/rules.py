"""Names, backoff, routing and records: everything that needs no connection."""

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
"""Maximum bytes of a published event, and of a step's response."""
MOST_HEADER_BYTES = 16 * 1024
"""Maximum bytes of a message's headers."""

_MIB = 2**20
_ID = re.compile(r"[A-Za-z0-9][-_A-Za-z0-9]{0,63}")


class BadEventError(Exception):
    """Not a valid event."""


class TooLongError(BadEventError):
    """An event exceeds the maximum size."""


class PermanentError(Exception):
    """A step's response is invalid in a way that a retry would not change."""


def stream_size(events_mib: int) -> int:
    """Bytes of a stream for ``events_mib`` of published events.

    It has a reserve for the events that steps publish when clients have filled the rest. Without
    it a full stream would deadlock: every event would wait for space for the next one.
    """
    return events_mib * _MIB + max(events_mib * _MIB // 4, _MIB)


def publishable(stream_bytes: int) -> int:
    """The bytes that clients may fill, of a stream of ``stream_size``."""
    return max(stream_bytes * 4 // 5, 0) if stream_bytes > 5 * _MIB else stream_bytes - _MIB


def encoded(data: Any, longest: int) -> bytes:
    """Data as compact JSON.

    :raises BadEventError: a number that JSON does not allow
    :raises TooLongError: more than ``longest`` bytes
    """
    try:
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise BadEventError("an event's numbers must be finite") from None
    try:
        stored = text.encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8, but an escape.
        stored = json.dumps(data, separators=(",", ":")).encode()
    if len(stored) > longest:
        raise TooLongError(f"its data has {len(stored)} bytes, the maximum is {longest}")
    return stored


def decoded(text: bytes) -> Any:
    """Data from JSON.

    :raises BadEventError: invalid or too deeply nested JSON
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise BadEventError("its JSON is nested too deeply") from None
    except ValueError:
        raise BadEventError("it is not valid JSON") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


def consumer(subscriber: str, subscription: str) -> str:
    """Name of a subscription's consumer on the bus.

    The names are DNS labels: with a dash between them, ``a-b`` of ``c`` and ``b`` of ``c-a`` would
    share one consumer, and each would get half of the events.
    """
    return f"{subscriber}_{subscription}"


def new_id() -> str:
    """An id for an event without one."""
    return secrets.token_hex(8)


def checked_id(text: str) -> str:
    """The id, if it is valid: it becomes part of subjects and headers."""
    if not _ID.fullmatch(text):
        raise BadEventError(
            "an event's id must have 1 to 64 letters, digits, dashes and underscores"
        )
    return text


def idempotency_key(event: str, source: str, path: str) -> str:
    """The same for every attempt to deliver an event to a step on one path.

    :param source: the subscriber or pipeline: others on the bus may have steps of the same name
    """
    return f"{event}/{source}/{path}"


def longer(path: str, step: str) -> str:
    """The path with one more step."""
    return f"{path}/{step}" if path else step


@dataclass(frozen=True)
class Subscription:
    """One step: its topic, its URL, and the next steps."""

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
        # A power could overflow a float.
        grown = self.first_delay
        for _ in range(attempt - 1):
            grown = min(grown * self.factor, self.longest_delay)
        return min(grown, self.longest_delay)

    def following(self, data: Any) -> list[dict[str, str]]:
        """The next steps for an event with this data, in order."""
        chosen = [
            {"step": step, "topic": topic, "kind": "required"}
            for step, topic in self.required.items()
        ]
        for step, (key, topic) in self.optional.items():
            if isinstance(data, dict) and data.get(key) is not None:
                chosen.append({"step": step, "topic": topic, "kind": "optional"})
        return chosen


def onward(data: Any, answer: bytes, kind: str = "") -> Any:
    """The data of the next event: a response that is a JSON object is merged into the data.

    :param kind: the response's media type
    :raises PermanentError: the response claims to be JSON and is invalid
    """
    try:
        given = decoded(answer) if answer else None
    except BadEventError as error:
        # Other text is ignored, but truncated JSON must not be taken for that.
        if answer.lstrip()[:1] in (b"{", b"[") or media_type(kind).endswith("json"):
            raise PermanentError(f"the step's response is invalid: {error}") from None
        return data
    if isinstance(given, dict) and isinstance(data, dict):
        return {**data, **given}
    return data


def media_type(content_type: str) -> str:
    """A content type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def published(content_type: str, body: bytes, event: str | None) -> tuple[str, Any]:
    """Id and data of a published event: plain JSON, or a CloudEvent in structured mode.

    :param event: id from a header
    :raises TooLongError: the body is too long
    :raises BadEventError: the event is invalid
    """
    if len(body) > MOST_BYTES:
        raise TooLongError(f"an event must have at most {MOST_BYTES} bytes")
    try:
        data = decoded(body)
    except BadEventError as error:
        raise BadEventError(f"an event must be JSON: {error}") from None
    if media_type(content_type) == "application/cloudevents+json":
        if not isinstance(data, dict) or not isinstance(data.get("id"), str):
            raise BadEventError("a CloudEvent must be a JSON object with an id")
        event, data = data["id"], data.get("data")
    return checked_id(event) if event else new_id(), data


def record(outcome: str, event: str, path: str, began: float, **more: Any) -> dict[str, Any]:
    """A record of an event at a step.

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
