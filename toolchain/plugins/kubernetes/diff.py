"""What changes between the inputs of the last operation and the new ones, and what it takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from toolchain.plugins.kubernetes import annotation, quantity
from toolchain.plugins.kubernetes.immutable import Fixed, is_fixed
from toolchain.plugins.provider.provider import Diff, DiffKind

_PLAIN_KEY = re.compile(r"[A-Za-z_$][\w$]*\Z")
_Path = tuple[str | int, ...]


def compare(old: Mapping[str, Any], new: Mapping[str, Any], rule: Fixed) -> Diff:
    """Compares inputs that carry no marks of secrets.

    Args:
        old: Inputs of the last operation (as observed, after a refresh).
        new: What the program says now.
        rule: Fields whose change replaces the object.
    """
    details = {}
    for path, kind in _changes(_declared(old), _declared(new), ()):
        steps = tuple("[]" if isinstance(step, int) else step for step in path)
        # A whole block that comes or goes may hold fixed and free fields: fixed ones decide.
        if is_fixed(steps, rule) or _holds_fixed(steps, rule, old, new):
            kind = DiffKind[f"{kind.name}_REPLACE"]  # noqa: PLW2901
        details[text(path)] = kind
    return Diff(details, delete_before_replace=stays_in_place(old, new))


def stays_in_place(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether old and new object would have the same name, so that one has to go first."""
    if annotation.is_true(new, annotation.AUTONAMED):
        return False
    before, after = old.get("metadata") or {}, new.get("metadata") or {}
    return all(
        before.get(key) == after.get(key) for key in ("name", "namespace")
    ) and not after.get("generateName")


def text(path: _Path) -> str:
    """A property path as the engine reads it, for example ``spec.containers[0].image``."""
    result = ""
    for step in path:
        if isinstance(step, int):
            result += f"[{step}]"
        elif _PLAIN_KEY.match(step):
            result += f".{step}" if result else step
        else:
            result += f"[{json.dumps(step)}]"
    return result


def _declared(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in inputs.items() if key != "status"}


def _changes(old: Any, new: Any, path: _Path) -> Iterator[tuple[_Path, DiffKind]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _changes(old.get(key), new.get(key), (*path, key))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else None
            after = new[index] if index < len(new) else None
            yield from _changes(before, after, (*path, index))
    elif _same(old, new, path):
        return
    elif old is None:
        yield path, DiffKind.ADD
    elif new is None:
        yield path, DiffKind.DELETE
    else:
        yield path, DiffKind.UPDATE


def _same(old: Any, new: Any, path: _Path) -> bool:
    """Whether two values come to the same: no list and an empty one are written alike."""
    if old == new or (old in (None, []) and new in (None, [])):
        return True
    return _is_quantity(path) and quantity.same(old, new)


def _is_quantity(path: _Path) -> bool:
    """Whether the server may write a value another way, as 500m for 0.5."""
    return bool(path) and (path[-1] == "sizeLimit" or path[-2:-1] in (("limits",), ("requests",)))


def _holds_fixed(
    path: tuple[str, ...], rule: Fixed, old: Mapping[str, Any], new: Mapping[str, Any]
) -> bool:
    for fixed_path in rule.paths:
        steps = fixed_path.split(".")
        if len(steps) > len(path) and tuple(steps[: len(path)]) == path:
            before, after = _at(old, steps), _at(new, steps)
            if before != after:
                return True
    return False


def _at(value: Any, steps: list[str]) -> Any:
    for step in steps:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value
