"""What every component gives: attributes that are declared, and outputs in the state."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pulumi
import pytest

from dds_patterns import Application, EtcdCluster, StatefulApplication
from dds_patterns.arguments.addresses import is_endpoint
from dds_patterns.arguments.describe import descriptions
from tests.unit.support.examples import EVERY, Example
from toolchain.graph import build

MADE, REGISTERED = "made", "registered"
CONTENTS = ["required", "full"]
# Their attributes are named in the catalog's own change.
every_component = pytest.mark.parametrize("example", EVERY.values(), ids=EVERY.keys())
with_either = pytest.mark.parametrize("content", CONTENTS)


@dataclasses.dataclass(eq=False)
class Made:
    """A component, and everything that was made with it."""

    component: Any
    inputs: dict[pulumi.Resource, Mapping[str, Any]]
    """What is registered as inputs, which the SDK makes attributes."""
    order: list[tuple[str, pulumi.Resource]]
    """Which resource was made, and which registered its outputs, in this order."""
    registered: dict[pulumi.Resource, Mapping[str, Any]]
    known: dict[str, Any]
    """The values of the component's attributes, with those of Outputs."""


@functools.cache
def made(example: Example, content: str) -> Made:
    found = Made(None, {}, [], {}, {})
    begin, end = pulumi.Resource.__init__, pulumi.ComponentResource.register_outputs

    def beginning(
        self: pulumi.Resource, kind: str, name: str, custom: bool, props: Any = None, *args: Any,
        **more: Any,
    ) -> None:  # fmt: skip
        found.order.append((MADE, self))
        found.inputs[self] = props or {}
        begin(self, kind, name, custom, props, *args, **more)

    def ending(self: pulumi.ComponentResource, outputs: Any) -> None:
        found.order.append((REGISTERED, self))
        found.registered[self] = outputs
        end(self, outputs)

    def program() -> None:
        args = example.full() if content == "full" else dict(example.required)
        found.component = example.make("one", args)
        for name in annotated(example.component):
            value = getattr(found.component, name)
            found.known[name] = value
            if isinstance(value, pulumi.Output):
                value.apply(functools.partial(found.known.__setitem__, name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pulumi.Resource, "__init__", beginning)
        patch.setattr(pulumi.ComponentResource, "register_outputs", ending)
        build(program)
    return found


def annotated(kind: type) -> dict[str, Any]:
    """The public attributes that a class and its bases declare."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("dds_patterns."):
            found |= inspect.get_annotations(base)
    return {
        name: kind
        for name, kind in found.items()
        if not name.startswith("_") and typing.get_origin(kind) is not typing.ClassVar
    }


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """What a class and its bases define, apart from its attributes."""
    for base in kind.__mro__:
        if base.__module__.startswith("dds_patterns."):
            yield from vars(base).items()


def below(resource: pulumi.Resource) -> Iterator[pulumi.Resource]:
    """Everything whose parent it is, also indirectly."""
    for child in resource._childResources:
        yield child
        yield from below(child)


def last(found: Made, component: pulumi.Resource) -> None:
    """Hold that a component registers its outputs once, after the last of what is below it."""
    at = [position for position, each in enumerate(found.order) if each == (REGISTERED, component)]
    assert len(at) == 1, f"{component} registers its outputs {len(at)} times"
    later = {each for _, each in found.order[at[0] + 1 :]}
    assert later.isdisjoint(below(component))


@with_either
@every_component
def test_outputs_are_registered_once_and_last_with_content(example: Example, content: str) -> None:
    found = made(example, content)
    components = [
        each
        for what, each in found.order
        if what == MADE and isinstance(each, pulumi.ComponentResource)
        if type(each).__module__.startswith("dds_patterns.")
    ]
    for component in components:
        last(found, component)
        outputs, kind = found.registered[component], type(component)
        assert any(value is not None for value in outputs.values())
        assert not any(map(dataclasses.is_dataclass, outputs.values()))
        assert set(outputs) <= set(annotated(kind))
    assert bool(components) is issubclass(example.component, pulumi.ComponentResource)


@with_either
@every_component
def test_every_attribute_is_declared_and_every_declared_one_is_set(
    example: Example, content: str
) -> None:
    found = made(example, content)
    component, declared = found.component, set(annotated(example.component))
    given = {name for name in vars(component) if not name.startswith("_")}
    assert given - {"id", "urn", *found.inputs[component]} <= declared <= given


@every_component
def test_every_attribute_is_described(example: Example) -> None:
    component: Any = example.component
    said = descriptions(component)
    for name, kind in annotated(example.component).items():
        assert said.get(name), f"{name} has no docstring"
        assert not isinstance(kind, str)
    for name, member in members(example.component):
        if isinstance(member, property) and not name.startswith("_"):
            assert inspect.getdoc(member), f"{name} has no docstring"
            assert "return" in typing.get_type_hints(member.fget)


@with_either
@every_component
def test_an_endpoint_is_an_output_of_host_and_port_and_a_url_a_url(
    example: Example, content: str
) -> None:
    found = made(example, content)
    for name, kind in annotated(example.component).items():
        value = found.known[name]
        if name == "endpoint":
            assert kind in (pulumi.Output[str], pulumi.Output[str] | None)
            assert value is None or is_endpoint(value), value
        elif name == "endpoints":
            assert kind == pulumi.Output[list[str]]
            assert value
            assert all(map(is_endpoint, value)), value
        elif name == "url":
            assert kind == pulumi.Output[str]
            assert value.startswith(("http://", "https://"))
        elif isinstance(value, str):
            assert not value.startswith(("http://", "https://")), f"{name} is a URL"


def test_what_is_found_by_name_is_an_attribute_as_well() -> None:
    def program() -> None:
        ports: Any = [{"name": "http", "port": 8080}, {"name": "admin", "port": 8081}]
        web = Application("web", {"image": "a:1", "ports": ports})
        db = StatefulApplication("db", {"image": "a:1", "ports": ports})
        for served in (web, db):
            assert list(served.ports) == ["http", "admin"]
            assert served.ports["admin"] is served.port("admin")
            assert served.ports["http"] is served.reach
        etcd = EtcdCluster("etcd", {"image": "a:1", "users": {"shop": {"prefix": "/shop/"}}})
        assert list(etcd.users) == ["shop"]
        assert etcd.users["shop"] is etcd.user("shop")

    build(program)
