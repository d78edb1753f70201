"""A live object with the program's changes in it, for checks that server-side apply cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merged(live: Any, old: Any, new: Any) -> Any:
    """What the object would be after an update, near enough for the server to check it.

    Lists are taken from the program as a whole.

    Args:
        live: The object, with the defaults of the server.
        old: What the program said before.
        new: What it says now.
    """
    if not isinstance(new, Mapping) or not isinstance(live, Mapping):
        return new
    before = old if isinstance(old, Mapping) else {}
    kept = {key: value for key, value in live.items() if key in new or key not in before}
    changed = {key: merged(live.get(key), before.get(key), value) for key, value in new.items()}
    return {**kept, **changed}
