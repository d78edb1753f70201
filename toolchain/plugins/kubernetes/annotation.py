"""The annotations by which a program steers the provider, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from toolchain.plugins.provider.errors import ProviderError

AUTONAMED: Final = "pulumi.com/autonamed"
DELETION_PROPAGATION: Final = "pulumi.com/deletionPropagationPolicy"
PATCH_FORCE: Final = "pulumi.com/patchForce"
REPLACE_UNREADY: Final = "pulumi.com/replaceUnready"
SKIP_AWAIT: Final = "pulumi.com/skipAwait"
TIMEOUT_SECONDS: Final = "pulumi.com/timeoutSeconds"
WAIT_FOR: Final = "pulumi.com/waitFor"


def value(thing: Mapping[str, Any], name: str) -> str | None:
    """The annotation's value on an object or on inputs; None if it is not there."""
    metadata = thing.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    text = found.get(name) if isinstance(found, Mapping) else None
    return text if isinstance(text, str) else None


def is_true(thing: Mapping[str, Any], name: str) -> bool:
    """Whether the annotation says ``true``."""
    return value(thing, name) == "true"


def seconds(thing: Mapping[str, Any], asked: float, default: float) -> float:
    """How long to wait: what ``customTimeouts`` asked, else the annotation, else the default.

    Raises:
        ProviderError: The annotation is no number of seconds above 0.
    """
    if asked > 0:
        return asked
    text = value(thing, TIMEOUT_SECONDS)
    if text is None:
        return default
    if not text.isdigit() or int(text) == 0:
        raise ProviderError(
            f"annotation {TIMEOUT_SECONDS} is {text!r}; a whole number of seconds above 0"
        )
    return float(text)
