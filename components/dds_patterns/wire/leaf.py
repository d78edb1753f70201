"""What arrives at a provider: plain JSON, with leaves that are unknown, secret or depend on something.

The engine marks any part of a value as secret, unknown or dependent, with its own signatures. Here
only leaves are marked, so that the shape of a value is plain wherever it is known.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pulumi
from google.protobuf import struct_pb2
from pulumi.resource import DependencyResource

from dds_patterns.arguments.place import DEFERRED

T = TypeVar("T")

# The protocol of the engine, sdk/go/common/resource/properties.go.
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105
_OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
_RESOURCE = "5cf8f73096256a8f31e491e813e4eb8e"
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


@dataclass(frozen=True)
class Leaf:
    """A number, text or boolean with marks, or any value that is unknown."""

    value: Any = None
    known: bool = True
    secret: bool = False
    """Whether it is a secret itself."""
    in_secret: bool = False
    """Whether it is part of an object that is a secret as a whole."""
    dependencies: frozenset[str] = frozenset()
    """URNs."""

    def output(self, *, secret: bool) -> pulumi.Output[Any]:
        """As an Output with the same marks."""
        resources: set[pulumi.Resource] = {DependencyResource(urn) for urn in self.dependencies}
        return pulumi.Output(done(resources), done(self.value), done(self.known), done(secret))


def done(value: T) -> "asyncio.Future[T]":
    """A future that has this value."""
    future: asyncio.Future[T] = asyncio.Future()
    future.set_result(value)
    return future


def decoded(
    inputs: struct_pb2.Struct, dependencies: Mapping[str, frozenset[str]]
) -> dict[str, Any]:
    """The inputs of a component.

    :param dependencies: URNs by input
    """
    return {
        key: _decoded(value, Leaf(dependencies=dependencies.get(key, frozenset())))
        for key, value in inputs.fields.items()
    }


def _decoded(value: struct_pb2.Value, marks: Leaf) -> Any:
    """A value, in which every leaf has these marks as well as its own."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _struct(value.struct_value.fields, marks)
    if kind == "list_value":
        return [_decoded(item, _inside(marks)) for item in value.list_value.values]
    plain = None if kind == "null_value" else getattr(value, str(kind))
    if plain in (_UNKNOWN, DEFERRED):
        return replace(marks, known=False)
    if isinstance(plain, float) and plain.is_integer():
        # The protocol has only floats.
        plain = int(plain)
    return plain if marks == Leaf() else replace(marks, value=plain)


def _inside(marks: Leaf) -> Leaf:
    """The marks of a part of what has these."""
    return replace(marks, secret=False, in_secret=marks.secret or marks.in_secret)


def _struct(fields: Mapping[str, struct_pb2.Value], marks: Leaf) -> Any:
    signature = fields[_SIGNATURE].string_value if _SIGNATURE in fields else ""
    if signature == _SECRET:
        return _decoded(fields["value"], replace(marks, secret=True))
    if signature == _OUTPUT:
        urns = fields["dependencies"].list_value.values if "dependencies" in fields else ()
        marks = replace(
            marks,
            secret=marks.secret or ("secret" in fields and fields["secret"].bool_value),
            dependencies=marks.dependencies | {urn.string_value for urn in urns},
        )
        # An Output without a value is unknown.
        return (
            _decoded(fields["value"], marks) if "value" in fields else replace(marks, known=False)
        )
    if signature == _RESOURCE:
        return _decoded(fields["urn"], marks)
    # The protocol has no order of keys: this one is the same on every run.
    return {key: _decoded(fields[key], _inside(marks)) for key in sorted(fields)}
