"""The form of every entry: one line of JSON, described in docs/schemas/log-entry-1.json."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = "dds.log/1"
SEVERITIES = ("info", "warning", "error")
# Longest texts, in characters: what an application logs must not grow without bound here.
LONGEST_MESSAGE = 8192
LONGEST_ATTRIBUTE = 1024


@dataclass(frozen=True)
class Entry:
    """One entry; ``id`` is the same however often it is read."""

    id: str
    time: float
    """Unix seconds."""
    kind: str
    message: str
    severity: str = "info"
    duration_ms: float | None = None
    client: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def line(self, source: str) -> str:
        """As it is written: all keys, always, and a line feed."""
        at = datetime.datetime.fromtimestamp(self.time, datetime.UTC)
        return (
            json.dumps(
                {
                    "schema": SCHEMA,
                    "id": f"{source}:{self.id}",
                    "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                    "source": source,
                    "kind": self.kind,
                    "severity": self.severity,
                    "message": self.message[:LONGEST_MESSAGE],
                    "duration_ms": self.duration_ms,
                    "client": self.client,
                    "attributes": {k: _short(v) for k, v in self.attributes.items()},
                },
                ensure_ascii=False,
                separators=(",", ":"),
            )
            + "\n"
        )


def _short(value: Any) -> Any:
    return value[:LONGEST_ATTRIBUTE] if isinstance(value, str) else value
