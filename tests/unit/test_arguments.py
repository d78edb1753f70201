"""What holds for every argument of every component, tried with values from its declaration."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pulumi
import pytest

import dds_patterns
from dds_patterns import Application, StatefulApplication, StatefulApplicationArgs
from dds_patterns.arguments.declared import Declared, arguments_of
from dds_patterns.arguments.deferred import is_deferred
from dds_patterns.arguments.describe import descriptions
from dds_patterns.arguments.errors import InputError
from dds_patterns.pods.companion import Companion
from tests.unit.support.examples import EVERY, IMAGE, Example
from tests.unit.support.examples.values import VALUES
from tests.unit.support.odd import Argument, arguments, changed, fields, odd_values
from toolchain.graph import Graph, build

NAME_NO_OBJECTS = {
    "Authority", "Certificate", "Cluster", "ExistingSecret", "ImageCatalog", "Password",
}  # fmt: skip
every_component = pytest.mark.parametrize("example", EVERY.values(), ids=EVERY.keys())


FIRST = {example.component: example for example in reversed(EVERY.values())}


# Each key of ``hosting`` is declared once for all components: the first that has it tries it.
HOSTING = {
    key: example.component
    for example in reversed(EVERY.values())
    if (declared := arguments_of(example.declaration).get("hosting"))
    for key in arguments_of(declared.type)
}


def given(example: Example) -> Iterator[Argument]:
    """The arguments that an example is the first of its component to give."""
    first = FIRST[example.component]
    tried = set()
    if example is not first:
        tried = {argument.path for argument in arguments(first.declaration, first.full())}
    for argument in arguments(example.declaration, example.full()):
        key = re.match(r"hosting\.(\w+)", argument.path)
        if key and HOSTING[key[1]] is not example.component:
            continue
        if argument.path not in tried:
            yield argument


def refusals(
    example: Example, tries: Iterator[tuple[str, dict[str, Any]]], expected: str = ""
) -> None:
    """Hold that each is refused by a message that names its path, and nothing is registered."""
    wrong: list[str] = []
    name = f'{example.component.__name__} "one": '

    def program() -> None:
        for label, args in tries:
            path = label.partition(" = ")[0]
            try:
                example.make("one", args)
            except InputError as error:
                message = str(error)
                if not message.startswith(f"{name}{path}") or expected not in message:
                    wrong.append(f"{label}: the message is {message}")
            except Exception as error:  # noqa: BLE001 (a user must never see another one)
                wrong.append(f"{label}: {type(error).__name__}: {error}")
            else:
                wrong.append(f"{label}: accepted")

    graph = build(program)
    assert not wrong, "\n".join(wrong)
    assert not graph.nodes, "something was registered before a refusal"


def made(
    example: Example, args: Callable[[], dict[str, Any]], *, preview: bool = False
) -> dict[str, Any]:
    """All that is registered with these arguments. Outputs among them need a running program."""

    def program() -> None:
        component = example.make("one", args())
        if isinstance(companion := getattr(component, "companion", None), Companion):
            # What a companion is made of shows in a pod that has it.
            Application("host", {"image": IMAGE, "companions": [companion]})

    graph: Graph = build(program, preview=preview)
    return {node.urn: (node.inputs, node.secrets) for node in graph}


def every(example: Example, change: Callable[[Declared, Any], Any]) -> dict[str, Any]:
    return changed(example.declaration, example.full(), change)


def assert_same(example: Example, change: Callable[[Declared, Any], Any]) -> None:
    """Hold that a change of how the values are written changes nothing that is registered."""
    assert made(example, lambda: every(example, change)) == everything(example)


@functools.cache
def everything(example: Example) -> dict[str, Any]:
    return made(example, example.full)


@every_component
def test_an_odd_value_is_refused_by_name_before_anything_is_registered(example: Example) -> None:
    def tries() -> Iterator[tuple[str, dict[str, Any]]]:
        for argument in given(example):
            for value, path in odd_values(argument):
                yield f"{path} = {value!r:.80}", argument.put(value)

    refusals(example, tries())


@every_component
def test_an_output_where_a_plain_value_is_needed_is_refused_by_name(example: Example) -> None:
    def tries() -> Iterator[tuple[str, dict[str, Any]]]:
        for argument in given(example):
            if argument.declared.deferrable is None and argument.declared.form != "any":
                output = pulumi.Output.from_input(argument.value)
                yield argument.path, argument.put(output)

    refusals(example, tries(), "must be a plain value, known before anything is deployed")


@every_component
def test_a_name_that_its_objects_could_not_have_is_refused(example: Example) -> None:
    names: list[Any] = ["", "a b", "a" * 201, "a\n", 1, None]
    if example.component.__name__ not in NAME_NO_OBJECTS:
        names += ["Web", "a_b", "-a", "a-", "a.b", "a" * 64]

    def program() -> None:
        for name in names:
            with pytest.raises(InputError, match=r"name is .*; must "):
                example.make(name, example.full())

    assert not build(program).nodes


@every_component
@pytest.mark.parametrize("name", ["one-0", "one-r1"])
def test_a_name_that_replicas_of_another_have_is_refused(example: Example, name: str) -> None:
    """Its Service would be the one of the first replica, or second rank, of ``one``."""
    sets = build(lambda: example.make("one", example.full())).all("StatefulSet")

    def program() -> None:
        if any(node.inputs["metadata"].get("name") == "one" for node in sets):
            with pytest.raises(
                InputError, match=f'"{name}": name is .*must not end like -0 or -r1'
            ):
                example.make(name, example.full())
        else:
            example.make(name, example.full())

    assert bool(sets) != bool(build(program).nodes)


@every_component
def test_none_is_left_out(example: Example) -> None:
    optional = {
        key: None
        for key, declared in arguments_of(example.declaration).items()
        if not declared.required and key not in example.required
    }
    assert made(example, lambda: {**example.required, **optional}) == made(
        example, lambda: example.required
    )

    def tries() -> Iterator[tuple[str, dict[str, Any]]]:
        for key, declared in arguments_of(example.declaration).items():
            if declared.required:
                yield key, {**example.required, key: None}

    refusals(example, tries(), "is missing; required are")


@every_component
def test_whole_floats_are_integers(example: Example) -> None:
    def as_floats(declared: Declared, value: Any) -> Any:
        plain = not is_deferred(value) and not isinstance(value, bool)
        return float(value) if plain and declared.type in (int, float) else value

    assert_same(example, as_floats)


@every_component
def test_kubernetes_keys_are_known_in_both_spellings(example: Example) -> None:
    def camel(key: str) -> str:
        return re.sub("_([a-z])", lambda found: found[1].upper(), key)

    def respelt(value: Any) -> Any:
        if isinstance(value, dict):
            return {camel(key): respelt(item) for key, item in value.items()}
        return [respelt(item) for item in value] if isinstance(value, list) else value

    def as_on_the_wire(declared: Declared, value: Any) -> Any:
        return respelt(value) if declared.form == "kubernetes" else value

    assert_same(example, as_on_the_wire)


@every_component
def test_an_output_may_stand_where_the_declaration_says_so(example: Example) -> None:
    # How many claims there are is not known then, so none is registered.
    counted = arguments_of(StatefulApplicationArgs)["replicas"]
    registers_claims = example.component is StatefulApplication

    def as_outputs(declared: Declared, value: Any) -> Any:
        if declared.deferrable is None or is_deferred(value):
            return value
        if registers_claims and declared is counted:
            return value
        return pulumi.Output.from_input(value)

    assert_same(example, as_outputs)


@every_component
def test_an_unknown_output_passes_a_preview(example: Example) -> None:
    def as_unknown(declared: Declared, value: Any) -> Any:
        return value if declared.deferrable is None else unknown()

    made(example, lambda: every(example, as_unknown), preview=True)


def unknown() -> pulumi.Output[Any]:
    async def nothing() -> Any:
        return None

    async def no() -> bool:
        return False

    async def resources() -> set[pulumi.Resource]:
        return set()

    return pulumi.Output(resources(), nothing(), no())


@every_component
def test_a_secret_is_refused_where_others_could_read_it(example: Example) -> None:
    readable: list[str] = []

    def gather() -> None:
        for argument in given(example):
            deferrable = argument.declared.deferrable
            if deferrable is not None and not deferrable.secret:
                readable.append(argument.path)

    build(gather)
    for path in readable:

        def program(path: str = path) -> None:
            argument = next(each for each in given(example) if each.path == path)
            example.make("one", argument.put(pulumi.Output.secret(argument.value)))

        with pytest.raises(InputError, match="must not be a secret") as caught:
            build(program)
        assert f": {path} " in str(caught.value)


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES.keys())
def test_an_odd_field_of_a_value_is_refused_by_name(make: Callable[[], Any]) -> None:
    wrong: list[str] = []
    tried: set[str] = set()

    def program() -> None:
        value = make()
        for argument in fields(value):
            for odd, path in odd_values(argument):
                tried.add(re.split(r"[.\[]", path)[0])
                try:
                    type(value)(**argument.put(odd))
                except InputError as error:
                    if f": {path}" not in str(error) or "secret@" in str(error):
                        wrong.append(f"{path} = {odd!r:.80}: the message is {error}")
                else:
                    wrong.append(f"{path} = {odd!r:.80}: accepted")

    build(program)
    assert not wrong, "\n".join(wrong)
    assert tried


def test_every_argument_stands_in_an_example() -> None:
    """Or the tests above would not try it."""
    declared: set[str] = set()
    tried: set[str] = set()

    def gather() -> None:
        for example in EVERY.values():
            name = example.declaration.__name__
            declared.update(f"{name}.{key}" for key in arguments_of(example.declaration))
            for argument in arguments(example.declaration, example.full()):
                top = re.split(r"[.\[]", argument.path)[0]
                tried.add(f"{name}.{top}")
                if argument.declared.form == "arguments":
                    nested = argument.declared.type
                    declared.update(f"{nested.__name__}.{key}" for key in arguments_of(nested))
                    tried.update(f"{nested.__name__}.{key}" for key in argument.value)

    build(gather)
    assert declared - tried == set()


def test_every_public_component_has_an_example() -> None:
    public = {
        name
        for name in dds_patterns.__all__
        if isinstance(getattr(dds_patterns, name), type)
        and issubclass(getattr(dds_patterns, name), pulumi.Resource)
    }
    assert {example.component.__name__ for example in EVERY.values()} == public


UNITS = {
    "seconds": "seconds", "milliseconds": "ms", "minutes": "minutes", "hours": "hours",
    "days": "days", "mib": "mib", "kib": "kib", "bytes": "bytes", "percent": "percent",
}  # fmt: skip
# Storm's own name for it.
THEIRS = {"LogSourceArgs.window"}


def numbers() -> Iterator[tuple[str, str, str]]:
    """Every number among the arguments: of what, its name and its description."""
    seen: set[type] = set()

    def look(kind: type) -> Iterator[tuple[str, str, str]]:
        seen.add(kind)
        said = descriptions(kind)
        for key, declared in arguments_of(kind).items():
            inner = declared
            while inner.items is not None:
                inner = inner.items
            if inner.form == "scalar" and inner.type in (int, float):
                yield kind.__name__, key, said.get(key, "")
            elif inner.type not in seen and (
                inner.form == "arguments" or dataclasses.is_dataclass(inner.type)
            ):
                yield from look(inner.type)

    for example in EVERY.values():
        if example.declaration not in seen:
            yield from look(example.declaration)


def test_a_number_with_a_unit_has_it_in_its_name() -> None:
    without = set()
    for kind, name, says in numbers():
        for word in re.findall(r"[a-z]+", says.partition(".")[0].lower()):
            if word in UNITS and UNITS[word] not in name.split("_"):
                without.add(f"{kind}.{name}")
    assert without == THEIRS
