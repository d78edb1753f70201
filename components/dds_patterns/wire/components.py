"""Which components other languages get, and what each of them gives."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pulumi

import dds_patterns
from dds_patterns.arguments.declared import Declared, read
from dds_patterns.arguments.describe import descriptions

PACKAGE = "dds"


def token(name: str) -> str:
    """The token of a component or type in the schema."""
    return f"{PACKAGE}:index:{name}"


@functools.cache
def components() -> Mapping[str, type[pulumi.Resource]]:
    """Every public component by its token."""
    found = {name: getattr(dds_patterns, name) for name in dds_patterns.__all__}
    return {
        token(name): kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, pulumi.Resource)
    }


def declaration(component: type[pulumi.Resource]) -> type:
    """The TypedDict of a component's arguments."""
    found: type = getattr(dds_patterns, f"{component.__name__}Args")
    return found


class Output(NamedTuple):
    """What a component gives."""

    declared: Declared
    says: str


def outputs(component: type[pulumi.Resource]) -> Mapping[str, Output]:
    """The public attributes and properties of a component that have a wire form.

    Resources have none: programs in other languages do not see a component's children.
    """
    found: dict[str, Output] = {}
    for kind in reversed(component.__mro__):
        if kind.__module__.startswith("dds_patterns."):
            found |= {
                name: Output(declared, says)
                for name, annotation, says in _annotations(kind)
                if not name.startswith("_") and (declared := _declared(annotation))
            }
    return found


def _annotations(kind: type) -> Iterator[tuple[str, Any, str]]:
    said = descriptions(kind)
    for name, annotation in vars(kind).get("__annotations__", {}).items():
        if typing.get_origin(annotation) is not typing.ClassVar:
            yield name, annotation, said.get(name, "")
    for name, member in vars(kind).items():
        if isinstance(member, property) and member.fget is not None:
            annotation = typing.get_type_hints(member.fget)["return"]
            # It may refuse: an application without a port has no reach.
            yield name, annotation | None, inspect.getdoc(member) or ""


def _declared(annotation: Any) -> Declared | None:
    members = typing.get_args(annotation)
    required = type(None) not in members
    declared = read(annotation if required else members[0])
    inner = declared.innermost
    if inner.form == "value" and not inner.has_keys:
        return None
    return dataclasses.replace(declared, required=required)
