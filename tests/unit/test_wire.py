"""From another language a component registers what it does from Python, and gives the same."""

from collections.abc import Callable, Mapping
from typing import Any

import pulumi
import pytest
from google.protobuf import struct_pb2
from pulumi.output import Unknown
from pulumi.runtime import rpc

from dds_patterns.arguments.declared import Declared
from dds_patterns.wire import from_wire, to_wire
from dds_patterns.wire.host import constructed, state
from dds_patterns.wire.leaf import decoded
from dds_patterns.wire.writing import written
from tests.unit.support.examples import EVERY, Example
from tests.unit.support.examples.values import VALUES
from toolchain.graph import Graph, Node, build


def on_the_wire(value: Callable[[], Any], preview: bool = False) -> struct_pb2.Struct:
    """What the engine hands to a provider: serialised, with Outputs where they are nested."""
    found: list[struct_pb2.Struct] = []

    async def serialised() -> str:
        found.append(await rpc.serialize_properties(value(), {}, keep_output_values=True))
        return ""

    def program() -> pulumi.Output[str]:
        return pulumi.Output.from_input(serialised())

    build(program, preview=preview)
    return found[0]


def arguments(example: Example, args: Mapping[str, Any]) -> Any:
    return written(Declared("arguments", example.declaration), args)


def below(graph: Graph, example: Example) -> dict[str, Any]:
    """What the component registers, without the resources of its arguments."""
    own = graph.one(example.token, "it")
    nodes = [own, *(node for node in graph if f"{example.token}$" in node.urn)]
    return {node.urn: comparable(node) for node in nodes}


def comparable(node: Node) -> Any:
    return shown(node.inputs), node.secrets, set(node.dependencies)


def shown(value: Any) -> Any:
    """With unknown values that are equal."""
    if isinstance(value, Mapping):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shown(item) for item in value]
    return "<unknown>" if isinstance(value, Unknown) else value


def from_python(example: Example, args: Callable[[], Any], preview: bool = False) -> Graph:
    def program() -> None:
        made = example.make("it", args())
        pulumi.export("state", state(made))

    return build(program, preview=preview)


def from_elsewhere(example: Example, args: struct_pb2.Struct, preview: bool = False) -> Graph:
    def program() -> None:
        result = constructed(example.component, "it", decoded(args, {}))
        pulumi.export("state", result.state)

    return build(program, preview=preview)


COMPONENTS = {
    name: example
    for name, example in EVERY.items()
    if issubclass(example.component, pulumi.ComponentResource)
}


@pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])
@pytest.mark.parametrize("example", COMPONENTS.values(), ids=COMPONENTS)
def test_a_component_is_the_same_from_any_language(example: Example, preview: bool) -> None:
    given = on_the_wire(lambda: arguments(example, example.full()), preview)
    here = from_python(example, example.full, preview)
    there = from_elsewhere(example, given, preview)
    assert below(there, example) == below(here, example)
    assert shown(there.outputs[""]) == shown(here.outputs[""])
    assert there.output_secrets[""] == here.output_secrets[""]


def in_reverse(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: in_reverse(value[key]) for key in sorted(value, reverse=True)}
    return [in_reverse(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("example", EVERY.values(), ids=EVERY)
def test_the_order_of_keys_makes_no_difference(example: Example) -> None:
    # The protocol has none: another language could not keep it.
    one = from_python(example, example.full)
    other = from_python(example, lambda: in_reverse(example.full()))
    assert below(other, example) == below(one, example)


@pytest.mark.parametrize("name", sorted(EVERY.keys() - COMPONENTS.keys()))
def test_a_resource_that_is_no_component_is_within_one(name: str) -> None:
    example = EVERY[name]
    given = on_the_wire(lambda: arguments(example, example.full()))
    here, there = from_python(example, example.full), from_elsewhere(example, given)
    (component,) = there.all(f"dds:index:{name}")
    (made,) = there.children(component)
    assert made.inputs == here.one(name, "it").inputs
    assert there.outputs[""] == here.outputs[""]
    assert there.output_secrets[""] == here.output_secrets[""]


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_survives_the_wire(value: Callable[[], Any]) -> None:
    def again() -> Any:
        made = value()
        return to_wire(from_wire(made.__class__, to_wire(made)))

    assert on_the_wire(again) == on_the_wire(lambda: to_wire(value()))
