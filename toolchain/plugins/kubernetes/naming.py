"""Names for objects whose program gives none: ``<resource>-<8 hex digits>``."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

from toolchain.plugins.kubernetes import annotation

if TYPE_CHECKING:
    from toolchain.plugins.provider.provider import Autonaming

_DIGITS = 8


def name_for(resource: str, seed: bytes) -> str:
    """A new name; the same seed gives the same name, so that a retry does not make two objects."""
    digits = hashlib.sha256(seed).hexdigest()[:_DIGITS] if seed else secrets.token_hex(_DIGITS // 2)
    return f"{resource}-{digits}"


def named(
    metadata: dict[str, Any],
    old_metadata: dict[str, Any],
    resource: str,
    seed: bytes,
    autonaming: Autonaming | None = None,
) -> dict[str, Any]:
    """Metadata with a name: the program's, else the one chosen before, else a new one.

    Args:
        metadata: As the program gives it, without marks of secrets.
        old_metadata: Of the last inputs; empty for a new object and for a replacement.
        resource: The resource's name in the program.
        seed: The engine's randomness for this resource.
        autonaming: The stack's own rule for names.
    """
    if metadata.get("name") or metadata.get("generateName"):
        return metadata
    old = {"metadata": old_metadata}
    if annotation.is_true(old, annotation.AUTONAMED) and old_metadata.get("name"):
        name = old_metadata["name"]
    elif autonaming is not None:
        if autonaming.name is None:
            return metadata
        name = autonaming.name
    else:
        name = name_for(resource, seed)
    marks = dict(metadata.get("annotations") or {})
    marks[annotation.AUTONAMED] = "true"
    return {**metadata, "name": name, "annotations": marks}
