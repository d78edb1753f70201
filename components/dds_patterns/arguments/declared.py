"""Declarations: what the annotation of an argument says about it.

Arguments of components are TypedDicts, values that pass between components are dataclasses; both
declare a key in the same way::

    replicas: NotRequired[Annotated[Later[Annotated[int, between(1)]], Default(1)]]
    \"\"\"Pods.\"\"\"

``Later`` and ``Secret`` allow an Output, everything else is plain. ``Default`` has the default
value, ``DefaultsTo`` describes one that the component computes.
"""

import collections.abc
import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import pulumi

from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.plain import SCALARS

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class Default:
    """The value of an argument that is left out."""

    value: Any


@dataclasses.dataclass(frozen=True, eq=False)
class DefaultsTo:
    """A default that the component computes, in words: ``three intervals``."""

    says: str


@dataclasses.dataclass(frozen=True, eq=False)
class Deferrable:
    """An Output is allowed."""

    secret: bool = False
    """Whether it may be a secret, because it is stored as a secret."""


Later = Annotated[pulumi.Input[T], Deferrable()]
"""A value, or an Output of it that is no secret."""
Secret = Annotated[pulumi.Input[T], Deferrable(secret=True)]
"""A value that is a secret, or an Output of it; no message shows it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Declared:
    """The declaration of one value."""

    form: str
    """``scalar``, ``list``, ``tuple``, ``mapping``, ``arguments`` (a TypedDict of ours),
    ``kubernetes`` (one of the Kubernetes SDK), ``value`` (an instance) or ``any``."""
    type: Any
    """The scalar's type, the TypedDict, or the class of the instance."""
    items: "Declared | None" = None
    """Of a list or mapping: its entries."""
    keys: "Declared | None" = None
    """Of a mapping: its keys."""
    constraints: tuple[Constraint, ...] = ()
    deferrable: Deferrable | None = None
    default: Default | None = None
    default_says: str = ""
    """The default in words, if the component computes it."""
    required: bool = True

    @property
    def innermost(self) -> "Declared":
        """Of lists and mappings the innermost entry."""
        return self if self.items is None else self.items.innermost

    @property
    def has_keys(self) -> bool:
        """Whether it is a TypedDict or dataclass with declarations of its own."""
        return self.form == "arguments" or dataclasses.is_dataclass(self.type)


@functools.cache
def arguments_of(declaration: type) -> Mapping[str, Declared]:
    """The keys of a TypedDict or dataclass, in the order of their declaration."""
    if dataclasses.is_dataclass(declaration):
        return {given.name: _field(given) for given in dataclasses.fields(declaration)}
    optional = getattr(declaration, "__optional_keys__")  # noqa: B009
    return {
        key: dataclasses.replace(read(annotation), required=key not in optional)
        for key, annotation in declaration.__annotations__.items()
    }


def _field(given: "dataclasses.Field[Any]") -> Declared:
    missing = given.default is dataclasses.MISSING
    return dataclasses.replace(
        read(given.type),
        required=missing and given.default_factory is dataclasses.MISSING,
        default=None if missing or given.default is None else Default(given.default),
    )


def read(annotation: Any) -> Declared:
    """What an annotation declares."""
    origin, parameters = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.NotRequired, typing.Required):
        return read(parameters[0])
    if origin is Annotated:
        return _marked(read(parameters[0]), parameters[1:])
    if origin in (typing.Union, types.UnionType):
        return _plain_member(annotation, parameters)
    return _single(annotation) if origin is None else _composed(annotation, origin, parameters)


def _composed(annotation: Any, origin: Any, parameters: tuple[Any, ...]) -> Declared:
    if origin in (list, collections.abc.Sequence):
        return Declared("list", list, items=read(parameters[0]))
    if origin is tuple:
        return Declared("tuple", tuple, items=read(parameters[0]))
    if origin in (dict, collections.abc.Mapping):
        return Declared("mapping", dict, keys=read(parameters[0]), items=read(parameters[1]))
    if origin is pulumi.Output:
        return dataclasses.replace(read(parameters[0]), deferrable=Deferrable())
    raise TypeError(f"an argument cannot be declared as {annotation!r}")


def _single(annotation: Any) -> Declared:
    if annotation in SCALARS:
        return Declared("scalar", annotation)
    if annotation is Any:
        return Declared("any", Any)
    if typing.is_typeddict(annotation):
        ours = not annotation.__module__.startswith("pulumi_kubernetes.")
        return Declared("arguments" if ours else "kubernetes", annotation)
    if isinstance(annotation, type):
        return Declared("value", annotation)
    raise TypeError(f"an argument cannot be declared as {annotation!r}")


def _marked(declared: Declared, marks: tuple[Any, ...]) -> Declared:
    for mark in marks:
        if isinstance(mark, Constraint):
            declared = dataclasses.replace(declared, constraints=(*declared.constraints, mark))
        elif isinstance(mark, Default):
            declared = dataclasses.replace(declared, default=mark)
        elif isinstance(mark, DefaultsTo):
            declared = dataclasses.replace(declared, default_says=mark.says)
        elif isinstance(mark, Deferrable):
            declared = dataclasses.replace(declared, deferrable=mark)
    return declared


def _plain_member(annotation: Any, parameters: tuple[Any, ...]) -> Declared:
    """Of ``pulumi.Input[T]`` and ``T | None`` the declaration of T."""
    plain = [
        member
        for member in parameters
        if member is not type(None)
        and typing.get_origin(member) not in (collections.abc.Awaitable, pulumi.Output)
        and not isinstance(member, typing.ForwardRef)
    ]
    if len(plain) != 1:
        raise TypeError(f"an argument cannot be declared as {annotation!r}")
    return read(plain[0])
