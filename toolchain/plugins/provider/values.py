"""Converts property values between the engine's wire format and Python.

Decoded values are ``None``, ``bool``, ``int``, ``float``, ``str``, ``list`` and ``dict``, `Secret`
around a secret value, `UNKNOWN` for a value that is known only after an update, and `Tagged` for
assets, archives and resource references. Whole floats are decoded as ``int``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import struct_pb2

_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a mark, not a password
_OUTPUT: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
_UNKNOWN_TEXTS: Final = frozenset(
    {
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",  # of any type
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "a8ff3b40-0b60-4c3b-a9d1-3dda5e9d1d12",  # bool
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # map
    }
)
_UNKNOWN_TEXT: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"

    def __deepcopy__(self, memo: object) -> _Unknown:
        return self

    def __copy__(self) -> _Unknown:
        return self


UNKNOWN: Final = _Unknown()


@dataclasses.dataclass(frozen=True)
class Secret:
    """A value that the engine encrypts in the state and hides in its output."""

    value: Any

    def __repr__(self) -> str:
        return "Secret(...)"


@dataclasses.dataclass(frozen=True)
class Tagged:
    """An asset, an archive or a resource reference, which is passed on unchanged."""

    signature: str
    fields: Mapping[str, Any]


def decode(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Decodes the properties of a request."""
    return {key: _decoded(value) for key, value in struct.fields.items()}


def encode(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """Encodes the properties of a response.

    Raises:
        TypeError: A value has no wire format.
    """
    struct = struct_pb2.Struct()
    for key, value in properties.items():
        _encode_into(struct.fields[key], value)
    return struct


def plain(value: Any) -> Any:
    """A deep copy of the value with secrets unwrapped."""
    if isinstance(value, Secret):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def has_unknown(value: Any) -> bool:
    """Whether any part of the value is unknown until an update."""
    if value is UNKNOWN:
        return True
    if isinstance(value, Secret):
        return has_unknown(value.value)
    if isinstance(value, Mapping):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(has_unknown(item) for item in value)
    return False


def has_secret(value: Any) -> bool:
    """Whether any part of the value is a secret."""
    if isinstance(value, Secret):
        return True
    if isinstance(value, Mapping):
        return any(has_secret(item) for item in value.values())
    if isinstance(value, list):
        return any(has_secret(item) for item in value)
    return False


def secret(value: Any) -> Secret:
    """Marks a value as secret, without nested secrets."""
    return Secret(plain(value))


def keep_secrets(source: Any, target: Any) -> Any:
    """Marks values in ``target`` as secret whose counterparts in ``source`` are.

    Lists of different lengths are marked as a whole if any element of the source is a secret.
    """
    if isinstance(source, Secret):
        return secret(target)
    if isinstance(target, Secret) or not has_secret(source):
        return target
    if isinstance(source, Mapping) and isinstance(target, Mapping):
        return {
            key: keep_secrets(source[key], item) if key in source else item
            for key, item in target.items()
        }
    if isinstance(source, list) and isinstance(target, list) and len(source) == len(target):
        return [keep_secrets(one, other) for one, other in zip(source, target, strict=True)]
    return secret(target)


def _decoded(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return UNKNOWN if value.string_value in _UNKNOWN_TEXTS else value.string_value
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "list_value":
        return [_decoded(item) for item in value.list_value.values]
    if kind == "struct_value":
        fields = value.struct_value.fields
        if _SIGNATURE in fields:
            return _decoded_special(value.struct_value)
        return {key: _decoded(item) for key, item in fields.items()}
    return None


def _decoded_special(struct: struct_pb2.Struct) -> Any:
    fields = {key: _decoded(item) for key, item in struct.fields.items()}
    signature = str(fields.pop(_SIGNATURE))
    if signature == _SECRET:
        return secret(fields.get("value"))
    if signature == _OUTPUT:
        inner = fields.get("value", UNKNOWN)
        return secret(inner) if fields.get("secret") else inner
    return Tagged(signature, fields)


def _encode_into(target: struct_pb2.Value, value: Any) -> None:  # noqa: C901 - one case a type
    if value is None:
        target.null_value = struct_pb2.NULL_VALUE
    elif value is UNKNOWN:
        target.string_value = _UNKNOWN_TEXT
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = float(value)
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, Secret):
        fields = target.struct_value.fields
        fields[_SIGNATURE].string_value = _SECRET
        _encode_into(fields["value"], value.value)
    elif isinstance(value, Tagged):
        fields = target.struct_value.fields
        fields[_SIGNATURE].string_value = value.signature
        for key, item in value.fields.items():
            _encode_into(fields[key], item)
    elif isinstance(value, Mapping):
        target.struct_value.SetInParent()
        fields = target.struct_value.fields
        for key, item in value.items():
            _encode_into(fields[key], item)
    elif isinstance(value, list | tuple):
        target.list_value.SetInParent()
        for item in value:
            _encode_into(target.list_value.values.add(), item)
    else:
        raise TypeError(f"a {type(value).__name__} cannot be a property value")
