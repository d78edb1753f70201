"""Kubernetes' own types: validation by the SDK's TypedDicts, with keys in either spelling.

The types are evaluated only as deep as a value goes: a pod's volume alone refers to some hundred.
"""

import collections.abc
import functools
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any, cast

import pulumi
from pulumi._types import input_type_py_to_pulumi_names

from dds_patterns.arguments import containers, plain, scheduling
from dds_patterns.arguments.constraints import nearest
from dds_patterns.arguments.declared import Declared, arguments_of
from dds_patterns.arguments.deferred import is_deferred
from dds_patterns.arguments.place import Place

Resolve = Callable[[Place, Declared, Any], Any]
_SHAPES = {**containers.SHAPES, **scheduling.SHAPES}


def shaped(place: Place, shape: type, value: Any, resolve: Resolve) -> dict[str, Any]:
    """A mapping as the TypedDict says, its keys in the SDK's spelling.

    Outputs are allowed everywhere in it, and not checked unless ``SHAPES`` of ``containers`` or
    ``scheduling`` declares them.

    :param resolve: validates a value against its declaration
    :raises InputError: an unknown or missing key, a value of another type
    """
    if not isinstance(value, Mapping):
        place.refuse(value, f"must be a mapping as {shape.__name__} says")
    spellings = _spellings(shape)
    found: dict[str, Any] = {}
    for key, item in value.items():
        if item is None:
            continue
        name = spellings.get(key)
        if name is None:
            place.unknown(str(key), nearest(str(key), set(spellings.values())))
        at = place.key(str(key))
        if declared := _declared(shape).get(name):
            found[name] = resolve(at, declared, item)
        else:
            found[name] = _fitting(at, shape, _annotation(shape, name), item, resolve)
    required: frozenset[str] = getattr(shape, "__required_keys__")  # noqa: B009
    for key in sorted(required - set(found)):
        place.missing(key, list(required))
    return found


def on_the_wire(shape: type, value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping as the TypedDict says, its keys in the API's spelling."""
    names = _wire_names(shape)
    return {names.get(key, key): _on_the_wire(_inner(shape, key), value[key]) for key in value}


def _on_the_wire(shape: type | None, value: Any) -> Any:
    if shape is None:
        return value
    if is_deferred(value):
        return pulumi.Output.from_input(value).apply(lambda known: _on_the_wire(shape, known))
    if isinstance(value, Mapping):
        return on_the_wire(shape, value)
    return [_on_the_wire(shape, item) for item in value]


@functools.cache
def _inner(shape: type, key: str) -> type | None:
    """The TypedDict of what stands under a key of the SDK's, or in the list there."""
    return _typed_dict(shape, _annotation(shape, key)) if key in shape.__annotations__ else None


def _typed_dict(shape: type, annotation: Any) -> type | None:
    annotation = _evaluated(shape, annotation)
    if typing.is_typeddict(annotation):
        return cast(type, annotation)
    members = (each for each in typing.get_args(annotation) if not _is_output(each))
    return next(filter(None, (_typed_dict(shape, member) for member in members)), None)


@functools.cache
def _wire_names(shape: type) -> dict[str, str]:
    """The API's spelling of each key."""
    plain = getattr(sys.modules[shape.__module__], shape.__name__.removesuffix("Dict"))
    names: dict[str, str] = input_type_py_to_pulumi_names(plain)
    return {key: names.get(key, key) for key in shape.__annotations__}


@functools.cache
def _spellings(shape: type) -> dict[str, str]:
    """The SDK's spelling of each key, by both spellings."""
    return {name: key for key, wire in _wire_names(shape).items() for name in (key, wire)}


def _declared(shape: type) -> Mapping[str, Declared]:
    declaration = _SHAPES.get(shape.__name__)
    return {} if declaration is None else arguments_of(declaration)


@functools.cache
def _annotation(shape: type, key: str) -> Any:
    return _evaluated(shape, shape.__annotations__[key])


def _evaluated(shape: type, annotation: Any) -> Any:
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        # The SDK's own annotations, written as texts because its types name each other.
        annotation = eval(annotation, dict(vars(sys.modules[shape.__module__])))  # noqa: S307
    return annotation


def _fitting(place: Place, shape: type, annotation: Any, value: Any, resolve: Resolve) -> Any:
    if is_deferred(value):
        return value
    annotation = _evaluated(shape, annotation)
    origin, parameters = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.NotRequired, typing.Required):
        return _fitting(place, shape, parameters[0], value, resolve)
    if origin is typing.Union:
        return _member(place, shape, parameters, value, resolve)
    if origin is collections.abc.Sequence:
        return [
            _fitting(at, shape, parameters[0], item, resolve)
            for at, item in plain.items(place, value)
        ]
    if origin is collections.abc.Mapping:
        return {
            plain.scalar(place.a_key(), (str,), key): _fitting(
                place.entry(key), shape, parameters[1], item, resolve
            )
            for key, item in plain.entries(place, value)
        }
    if typing.is_typeddict(annotation):
        return shaped(place, annotation, value, resolve)
    return plain.scalar(place, (annotation,), value) if annotation in plain.SCALARS else value


def _member(
    place: Place, shape: type, parameters: tuple[Any, ...], value: Any, resolve: Resolve
) -> Any:
    members = [
        _evaluated(shape, member)
        for member in parameters
        if typing.get_origin(member) is not collections.abc.Awaitable and not _is_output(member)
    ]
    if len(members) == 1:
        return _fitting(place, shape, members[0], value, resolve)
    # A number or its name, as of a port; an enumeration is a text as well.
    return plain.scalar(place, tuple(m for m in members if m in plain.SCALARS), value)


def _is_output(member: Any) -> bool:
    # pulumi.Input names it by a text, which only the SDK's own module can evaluate.
    return isinstance(member, typing.ForwardRef) and member.__forward_arg__.startswith("Output[")
