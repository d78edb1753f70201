"""The form in which inputs are kept and compared: the official plugin's, so either can go on.

The API server keeps only some ways of saying a thing. The official plugin passes the inputs of
built-in kinds through Go's types, which leaves the same ways over; this does what that comes to.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from toolchain.plugins.kubernetes import kinds
from toolchain.plugins.provider.values import UNKNOWN, Secret, plain, secret

if TYPE_CHECKING:
    from toolchain.plugins.provider.provider import Properties

# Maps that are left out when they are empty. An empty object elsewhere, such as emptyDir or
# podSelector, says something.
_MAPS: Final = frozenset(
    {"annotations", "labels", "limits", "matchLabels", "nodeSelector", "requests"}
)


def normal(inputs: Properties) -> Properties:
    """Inputs in the form that is kept; those of custom resources as they are.

    What a Secret has as ``stringData`` stands in ``data``, encoded. Variables without a text and
    maps without a key are left out, for the server drops them.
    """
    api_version = plain(inputs.get("apiVersion"))
    if not isinstance(api_version, str) or kinds.is_custom(api_version):
        return inputs
    found = {key: _slim(value, key) for key, value in inputs.items()}
    if plain(inputs.get("kind")) == "Secret":
        return _encoded(found)
    return found


def _slim(value: Any, name: str) -> Any:
    if isinstance(value, Secret):
        return Secret(_slim(value.value, name))
    if isinstance(value, list):
        return [_slim(item, name) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: _slim(item, key) for key, item in value.items() if not _says_nothing(name, key, item)
    }


def _says_nothing(within: str, key: str, item: Any) -> bool:
    return (key in _MAPS and item == {}) or (within == "env" and key == "value" and item == "")


def _encoded(inputs: Properties) -> Properties:
    """A Secret's texts among its data, which they overrule."""
    texts, data = (plain(inputs.get(key)) for key in ("stringData", "data"))
    if not texts:
        return inputs
    rest = {key: value for key, value in inputs.items() if key != "stringData"}
    if texts is UNKNOWN or data is UNKNOWN:
        return {**rest, "data": secret(UNKNOWN)}
    encoded = {
        # What is no text, or not known yet, stays as it is.
        key: base64.b64encode(text.encode()).decode() if isinstance(text, str) else text
        for key, text in texts.items()
    }
    return {**rest, "data": secret({**(data or {}), **encoded})}
