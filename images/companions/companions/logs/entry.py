"""The format of every entry: one line of JSON, described in docs/schemas/log-entry-1.json."""

import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = "dds.log/1"
SEVERITIES = ("info", "warning", "error")
# Maximum lengths in characters; longer texts are truncated.
LONGEST_MESSAGE = 8192
LONGEST_ATTRIBUTE = 1024


@dataclass(frozen=True)
class Entry:
    """One entry; its ``id`` is the same each time it is read.

    :raises ValueError: an invalid time or duration
    """

    id: str
    time: float
    """Unix seconds."""
    kind: str
    message: str
    severity: str = "info"
    duration_ms: float | None = None
    client: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Checked here, where the reader of a source can still skip the entry.
        try:
            _moment(self.time)
        except (OSError, OverflowError, ValueError) as error:
            raise ValueError(f"time is {self.time}: {error}") from error
        if self.duration_ms is not None and not 0 <= self.duration_ms < math.inf:
            raise ValueError(f"duration_ms is {self.duration_ms}, must be a number from 0")

    def line(self, source: str) -> str:
        """The line as written: all keys, and a line feed."""
        at = _moment(self.time)
        return (
            json.dumps(
                {
                    "schema": SCHEMA,
                    "id": _text(f"{source}:{self.id}"),
                    "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                    "source": source,
                    "kind": self.kind,
                    "severity": self.severity,
                    "message": _text(self.message, LONGEST_MESSAGE),
                    "duration_ms": self.duration_ms,
                    "client": None if self.client is None else _text(self.client),
                    "attributes": {k: _short(v) for k, v in self.attributes.items()},
                },
                ensure_ascii=False,
                separators=(",", ":"),
            )
            + "\n"
        )


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _short(value: Any) -> Any:
    return _text(value) if isinstance(value, str) else value


def _text(value: str, longest: int = LONGEST_ATTRIBUTE) -> str:
    """The text truncated, with lone surrogates escaped as in JSON."""
    return value[:longest].encode(errors="backslashreplace").decode()[:longest]
