"""`python -m toolchain schema`: provider/schema.json, the components as other languages see them.

The file is under version control, so that a change of the schema is part of a review; what breaks
programs in other languages is listed.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from toolchain.paths import ROOT

FILE = Path("provider", "schema.json")
"""Within a checkout."""
_TYPE = ("type", "$ref", "items", "additionalProperties", "secret")


class Changes(NamedTuple):
    """The differences between two schemas, a line each."""

    breaking: list[str]
    """What programs may use today and could not any more."""
    compatible: list[str]


def main(arguments: Sequence[str]) -> int:
    """Write the file; the command line of ``python -m toolchain schema``."""
    argparse.ArgumentParser(prog="schema", description=__doc__.partition("\n")[0]).parse_args(
        arguments
    )
    before, text = written(ROOT), generated()
    if before != json.loads(text):
        (ROOT / FILE).write_text(text, encoding="utf-8")
        for line in lines(changes(before, json.loads(text))):
            print(line)
    return 0


def written(root: Path) -> dict[str, Any]:
    """The schema in a checkout; empty where there is none."""
    path = root / FILE
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def generated() -> str:
    """The text that the file must have."""
    from dds_patterns.wire.schema import schema

    # A release changes only the version: the file is about everything else.
    return json.dumps({**schema(), "version": "0.0.0"}, indent=1, sort_keys=True) + "\n"


def lines(found: Changes) -> list[str]:
    """The changes in words, the breaking ones first."""
    return [f"breaking: {each}" for each in found.breaking] + found.compatible


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """Compare two schemas.

    Removing or retyping anything breaks programs, and so do an input that is required now and an
    output that may be absent now.
    """
    found = Changes([], [])
    for kind in ("resources", "types"):
        old, new = before.get(kind, {}), after.get(kind, {})
        found.breaking.extend(f"{token} is removed" for token in sorted(old.keys() - new.keys()))
        found.compatible.extend(f"{token} is new" for token in sorted(new.keys() - old.keys()))
        for token in sorted(old.keys() & new.keys()):
            for given, required in _parts(kind):
                _compare(
                    found,
                    token,
                    _Part(old[token], given, required),
                    _Part(new[token], given, required),
                )
    return found


class _Part(NamedTuple):
    of: Mapping[str, Any]
    properties_key: str
    required_key: str

    @property
    def properties(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.of.get(self.properties_key, {})
        return found

    @property
    def required(self) -> set[str]:
        return set(self.of.get(self.required_key, ()))

    @property
    def is_output(self) -> bool:
        return "isComponent" in self.of and self.properties_key == "properties"


def _parts(kind: str) -> Iterator[tuple[str, str]]:
    yield "properties", "required"
    if kind == "resources":
        yield "inputProperties", "requiredInputs"


def _compare(found: Changes, token: str, old: _Part, new: _Part) -> None:
    for name in sorted(old.properties.keys() | new.properties.keys()):
        label = f"{'output' if old.is_output else 'argument'} {name} of {token}"
        if name not in new.properties:
            found.breaking.append(f"{label} is removed")
        elif name not in old.properties:
            breaking = name in new.required and not new.is_output
            (found.breaking if breaking else found.compatible).append(
                f"{label} is new{' and required' if breaking else ''}"
            )
        else:
            _compare_property(found, label, name, old, new)


def _compare_property(found: Changes, label: str, name: str, old: _Part, new: _Part) -> None:
    types = [{key: part.properties[name].get(key) for key in _TYPE} for part in (old, new)]
    if types[0] != types[1]:
        found.breaking.append(f"{label} has another type")
    was, now = name in old.required, name in new.required
    if was != now:
        # An argument may become optional, an output may become certain.
        breaking = now != old.is_output
        (found.breaking if breaking else found.compatible).append(
            f"{label} is {'required' if now else 'optional'} now"
        )
