"""Field managers: who owns which field of an object, and what to do when two want the same."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from toolchain.plugins.kubernetes import annotation, quantity
from toolchain.plugins.kubernetes.state import CREATION_MANAGER
from toolchain.plugins.provider.errors import ProviderError

if TYPE_CHECKING:
    from toolchain.plugins.kubernetes.client import ApiError

_MANAGER = re.compile(r'conflict with "([^"]*)"')
_ELEMENT = re.compile(r'\[((?:[^\]"]|"(?:[^"\\]|\\.)*")*)\]')
_MISSING: Final = object()


def taken_over(live: Mapping[str, Any], manager: str) -> list[dict[str, Any]] | None:
    """Managed fields in which ``manager`` has what the creation of the object set.

    Objects are created under one name and applied under another. Without this a field that the
    program no longer mentions would stay, because its creator still owns it.

    Returns:
        None if there is nothing to take over.
    """
    entries = live["metadata"].get("managedFields") or []
    made = [entry for entry in entries if _is_creation(entry)]
    if not made:
        return None
    own = [entry for entry in entries if _is_applied_by(entry, manager)]
    fields: dict[str, Any] = {}
    for entry in (*own, *made):
        _merge(fields, entry.get("fieldsV1") or {})
    kept = [entry for entry in entries if entry not in made and entry not in own]
    merged = {**made[-1], "manager": manager, "operation": "Apply", "fieldsV1": fields}
    return [merged, *kept]


def _is_creation(entry: Mapping[str, Any]) -> bool:
    return (
        entry.get("manager") == CREATION_MANAGER
        and entry.get("operation") == "Update"
        and not entry.get("subresource")
    )


def _is_applied_by(entry: Mapping[str, Any], manager: str) -> bool:
    return entry.get("manager") == manager and entry.get("operation") == "Apply"


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        _merge(into.setdefault(key, {}), value)


def may_force(error: ApiError, live: Mapping[str, Any] | None, observed: Mapping[str, Any]) -> bool:
    """Whether an apply that conflicts may take the fields over.

    It may if the fields still belong to the object's creation by this provider, or if the state
    already holds the other's values (after a refresh), so that the preview has shown the change.

    Args:
        error: The API server's refusal.
        live: The object.
        observed: The inputs of the last operation or refresh, without marks of secrets.
    """
    return all(
        manager == CREATION_MANAGER or (live is not None and _was_seen(field, live, observed))
        for manager, field in conflicts(error)
    )


def _was_seen(field: str, live: Mapping[str, Any], observed: Mapping[str, Any]) -> bool:
    now = at(live, field)
    seen = at(observed, field)
    if now is _MISSING or seen is _MISSING:
        return now is seen
    return quantity.same(now, seen)


def conflicts(error: ApiError) -> list[tuple[str, str]]:
    """Manager and field of each conflict."""
    found = []
    for cause in error.causes:
        match = _MANAGER.search(str(cause.get("message")))
        found.append((match[1] if match else "another manager", str(cause.get("field") or "")))
    return found or [("another manager", "")]


def conflict_error(where: str, error: ApiError) -> ProviderError:
    """The refusal in words, with what can be done."""
    lines = [f"{field.lstrip('.')} is managed by {manager}" for manager, field in conflicts(error)]
    return ProviderError(
        f"{where}: {'; '.join(lines)}. Run pulumi refresh to see the other's values and decide "
        f"again, leave the fields out (or use ignoreChanges), or take them over with the "
        f'annotation {annotation.PATCH_FORCE}: "true"'
    )


def at(value: Any, field: str) -> Any:
    """The value at a field path of the API server, such as ``.spec.ports[port=80].name``."""
    while field:
        if field.startswith("."):
            key = _longest_key(value, field[1:])
            if key is None:
                return _MISSING
            value, field = value[key], field[1 + len(key) :]
        else:
            match = _ELEMENT.match(field)
            if match is None or not isinstance(value, list):
                return _MISSING
            value, field = _element(value, match[1]), field[match.end() :]
        if value is _MISSING:
            return _MISSING
    return value


def _longest_key(value: Any, rest: str) -> str | None:
    keys = value if isinstance(value, Mapping) else ()
    fitting = [
        key
        for key in keys
        if rest.startswith(key) and rest[len(key) : len(key) + 1] in {"", ".", "["}
    ]
    return max(fitting, key=len, default=None)


def _element(items: Sequence[Any], text: str) -> Any:
    if text.isdigit():
        index = int(text)
        return items[index] if index < len(items) else _MISSING
    if text.startswith("="):
        wanted = _json(text[1:])
        return wanted if wanted in items else _MISSING
    pairs = dict(part.partition("=")[::2] for part in text.split(","))
    for item in items:
        if isinstance(item, Mapping) and all(
            item.get(key) == _json(value) or key not in item for key, value in pairs.items()
        ):
            return item
    return _MISSING


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
