"""The properties of a resource type: their kinds, validation, and changes."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from toolchain.plugins.provider.values import UNKNOWN, has_unknown

if TYPE_CHECKING:
    from toolchain.plugins.provider.provider import Properties


@dataclasses.dataclass(frozen=True)
class Field:
    """One property.

    :param kind: string, integer, boolean, strings, strings_set, map, object, objects, objects_set;
        a set is unordered
    :param replace: whether a change replaces the object
    :param lasting: whether a value can be changed in place but not removed
    :param computed: whether the daemon has a default
    :param default: default value, as the official plugin records it
    :param fields: properties of the elements, for the object kinds
    :param reject: returns what would be valid if a value is not, else None
    """

    kind: str
    replace: bool = True
    lasting: bool = False
    required: bool = False
    computed: bool = False
    default: Any = None
    fields: Mapping[str, Field] = dataclasses.field(default_factory=dict)
    reject: Callable[[Any], str | None] | None = None


def one_of(*choices: str) -> Callable[[Any], str | None]:
    """Reject other values than these."""
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}"


def matching(pattern: str, expected: str) -> Callable[[Any], str | None]:
    """Reject values that do not fully match a regular expression."""
    return lambda value: None if re.fullmatch(pattern, value) else expected


def at_least(minimum: int) -> Callable[[Any], str | None]:
    """Reject a number below a minimum."""
    return lambda value: None if value >= minimum else f"must be at least {minimum}"


LABEL = {"label": Field("string", required=True), "value": Field("string", required=True)}


def labels(replace: bool = True, computed: bool = False) -> Field:
    """Labels in the official plugin's format: a set of objects."""
    return Field("objects_set", replace=replace, computed=computed, fields=LABEL)


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a property was refused; ``path`` is such as ports[0].internal."""

    path: str
    reason: str


def check(
    what: str, fields: Mapping[str, Field], given: Properties
) -> tuple[Properties, list[Failure]]:
    """Inputs with defaults filled in, and all failures of the given ones."""
    failures: list[Failure] = []
    return _object(what, "", fields, given, failures), failures


def _object(
    what: str,
    path: str,
    fields: Mapping[str, Field],
    given: Properties,
    failures: list[Failure],
) -> Properties:
    result: Properties = {}
    for name, value in given.items():
        where = f"{path}.{name}" if path else name
        if name == "__defaults" or value is None:
            continue
        field = fields.get(name)
        if field is None:
            close = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            failures.append(
                Failure(where, f"{what} has no property {name} here; {hint}known are "
                        f"{', '.join(sorted(fields))}")
            )  # fmt: skip
            continue
        result[name] = _value(what, where, field, value, failures)
    defaults: list[str] = []
    for name, field in fields.items():
        if name in result:
            continue
        if field.required:
            failures.append(Failure(f"{path}.{name}" if path else name, "is required"))
        elif field.default is not None:
            result[name] = field.default
            defaults.append(name)
    result["__defaults"] = sorted(defaults)
    return result


def _value(
    what: str,
    path: str,
    field: Field,
    value: Any,
    failures: list[Failure],
) -> Any:
    if value is UNKNOWN:
        return value
    wrong = _wrong_kind(field.kind, value)
    if wrong:
        failures.append(Failure(path, f"is {value!r}; must be {wrong}"))
        return value
    if field.kind == "object":
        return _object(what, path, field.fields, value, failures)
    if field.kind in ("objects", "objects_set"):
        elements: list[Any] = []
        for position, element in enumerate(value):
            where = f"{path}[{position}]"
            if element is UNKNOWN:
                elements.append(element)
            elif not isinstance(element, dict):
                failures.append(Failure(where, f"is {element!r}; must be an object"))
            else:
                elements.append(_object(what, where, field.fields, element, failures))
        return elements
    if field.kind in ("strings", "strings_set", "map"):
        failures.extend(_no_strings(path, value))
    if field.kind == "integer":
        value = int(value)
    reason = field.reject(value) if field.reject else None
    if reason:
        failures.append(Failure(path, f"is {value!r}; {reason}"))
    return value


def _no_strings(path: str, value: Any) -> list[Failure]:
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    return [
        Failure(f"{path}[{key}]", f"is {entry!r}; must be a string")
        for key, entry in entries
        if entry is not UNKNOWN and not isinstance(entry, str)
    ]


def _wrong_kind(kind: str, value: Any) -> str | None:
    if kind == "string":
        return None if isinstance(value, str) else "a string"
    if kind == "boolean":
        return None if isinstance(value, bool) else "true or false"
    if kind == "integer":
        whole = isinstance(value, int | float) and not isinstance(value, bool)
        return None if whole and math.isfinite(value) and value == int(value) else "an integer"
    if kind in ("map", "object"):
        return None if isinstance(value, dict) else "an object"
    return None if isinstance(value, list | tuple) else "a list"


@dataclasses.dataclass(frozen=True)
class Change:
    """A property that differs; ``replace`` is whether it replaces the object."""

    name: str
    replace: bool
    kind: str = "update"  # add, delete or update


def diff(
    fields: Mapping[str, Field],
    old_state: Properties,
    old_inputs: Properties | None,
    new_inputs: Properties,
) -> list[Change]:
    """The differences between the recorded state and the new inputs.

    A property that is no longer given has changed if it was given before. Without the old inputs,
    this is unknown for properties with a default of the daemon.
    """
    changes: list[Change] = []
    for name, field in fields.items():
        new = new_inputs.get(name)
        old = old_state.get(name)
        if old is None and old_inputs is not None:
            old = old_inputs.get(name)
        if new is None:
            given_before = old_inputs.get(name) if old_inputs is not None else None
            vanished = given_before if field.computed else old
            if field.computed and old_inputs is not None and name in _defaults(old_inputs):
                vanished = None
            if not _is_zero(vanished):
                changes.append(Change(name, field.replace or field.lasting, "delete"))
            continue
        if has_unknown(new):
            changes.append(Change(name, field.replace))
            continue
        if canonical(field, new) != canonical(field, old):
            replace = field.replace or (field.lasting and _is_zero(new))
            changes.append(Change(name, replace, "add" if _is_zero(old) else "update"))
    return changes


def _defaults(inputs: Properties) -> list[str]:
    return inputs.get("__defaults") or []


def _is_zero(value: Any) -> bool:
    return (
        value is None or value in ("", 0, False) or (isinstance(value, dict | list) and not value)
    )


def canonical(field: Field, value: Any) -> Any:
    """A canonical form for comparison: sets sorted, zero values omitted."""
    if _is_zero(value):
        return None
    if field.kind == "integer":
        return int(value)
    if field.kind == "map":
        return tuple(sorted((key, entry) for key, entry in value.items() if entry is not None))
    if field.kind == "strings":
        return tuple(value)
    if field.kind == "strings_set":
        return tuple(sorted(set(value)))
    if field.kind == "object":
        return _canonical_object(field.fields, value)
    if field.kind in ("objects", "objects_set"):
        elements = [_canonical_object(field.fields, element) for element in value]
        return tuple(sorted(elements, key=repr) if field.kind == "objects_set" else elements)
    return value


def _canonical_object(fields: Mapping[str, Field], value: Properties) -> Any:
    entries = []
    for name, field in sorted(fields.items()):
        given = value.get(name)
        if given is None:
            given = field.default
        entry = canonical(field, given)
        # The daemon fills in defaults; only given values are compared.
        if entry is not None and not (field.computed and value.get(name) is None):
            entries.append((name, entry))
    return tuple(entries)
