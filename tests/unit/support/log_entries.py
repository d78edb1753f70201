"""Entries of the log adapter, validated against their schema."""

import json
from pathlib import Path
from typing import Any

import jsonschema

from tests.unit.support.companions import program

entry = program("logs.entry")
SCHEMA = json.loads(
    (Path(__file__).parents[3] / "docs" / "schemas" / "log-entry-1.json").read_text()
)


def checked(found: Any, source: str = "one") -> dict[str, Any]:
    """The entry as it is written, which must match the schema."""
    line = found.line(source)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    written: dict[str, Any] = json.loads(line)
    jsonschema.validate(written, SCHEMA)
    assert written["schema"] == SCHEMA["$id"] == entry.SCHEMA
    return written
