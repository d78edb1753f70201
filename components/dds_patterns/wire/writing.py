"""To the wire: values and outputs as plain JSON, with Outputs where something is known later."""

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

import pulumi

from dds_patterns.arguments import shapes
from dds_patterns.arguments.declared import Declared, arguments_of
from dds_patterns.arguments.deferred import is_deferred
from dds_patterns.arguments.place import DEFERRED
from dds_patterns.wire.leaf import done
from dds_patterns.wire.names import camel


def to_wire(value: Any) -> dict[str, Any]:
    """The wire form of a value such as a Companion.

    Fields that have their default are left out. What it depends on is named by URN. A secret is a
    secret Output.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(value)}
    found: dict[str, Any] = {}
    for key, declared in arguments_of(value.__class__).items():
        item = getattr(value, key)
        if item not in (None, (), {}) and item != defaults[key]:
            found[camel(key)] = written(declared, item)
    return found


def written(declared: Declared, value: Any) -> Any:
    """The wire form of what is declared so."""
    if declared.deferrable is not None and declared.deferrable.secret:
        return pulumi.Output.secret(value)
    if is_deferred(value):
        return pulumi.Output.from_input(value).apply(lambda known: _written(declared, known))
    return _written(declared, value)


def _written(declared: Declared, value: Any) -> Any:
    if value is None or declared.form in ("scalar", "any"):
        return value
    if declared.form == "kubernetes":
        return shapes.on_the_wire(declared.type, value)
    if declared.form == "arguments":
        keys = arguments_of(declared.type)
        return {camel(key): written(keys[key], item) for key, item in value.items()}
    if declared.form == "value":
        return to_wire(value)
    if declared.items is None:
        raise TypeError(f"{declared.form} has no wire form")
    if isinstance(value, Mapping):
        return {key: written(declared.items, item) for key, item in value.items()}
    if declared.items.type is pulumi.Resource:
        return [resource.urn for resource in value]
    return [written(declared.items, item) for item in value]


def whole(value: Any) -> pulumi.Output[Any]:
    """A wire form as one Output: a secret if it has one in it, and known.

    In other languages' SDKs an object with an unknown part is unknown as a whole, so that a preview
    could not tell what, for example, a companion listens on: such parts are the text ``DEFERRED``.
    A secret within an object would be lost by the one of YAML.
    """
    return pulumi.Output.from_input(_known(value))


def _known(value: Any) -> Any:
    if isinstance(value, pulumi.Output):
        # As tasks, so that none is left over where a component is refused.
        resources = asyncio.ensure_future(value.resources())
        secret = asyncio.ensure_future(value.is_secret())
        present = asyncio.ensure_future(_present(value))
        return pulumi.Output(resources, present, done(True), secret)
    if isinstance(value, Mapping):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_known(item) for item in value]
    return value


async def _present(output: pulumi.Output[Any]) -> Any:
    return await output.future() if await output.is_known() else DEFERRED
