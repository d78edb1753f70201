"""The schema of the package, and what changes of it break."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dds_patterns
from dds_patterns.wire.components import components, declaration, outputs
from dds_patterns.wire.schema import schema
from toolchain import paths
from toolchain.schema import changes, generated, lines, written

FOUND = schema()


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_public_component_is_in_it() -> None:
    names = {
        name.removesuffix("Args")
        for name in dds_patterns.__all__
        if f"{name}Args" in dds_patterns.__all__
    }
    assert {token.rpartition(":")[2] for token in FOUND["resources"]} == names
    for token, kind in components().items():
        assert len(FOUND["resources"][token]["inputProperties"]) == len(
            declaration(kind).__annotations__
        )
        assert outputs(kind), f"{token} gives nothing"


def test_every_reference_leads_somewhere_and_no_type_has_the_name_of_a_component() -> None:
    for reference in set(references(FOUND)) - {"pulumi.json#/Any"}:
        assert reference.removeprefix("#/types/") in FOUND["types"]
    assert FOUND["types"].keys().isdisjoint(FOUND["resources"])


def test_everything_is_described() -> None:
    for kind in ("resources", "types"):
        for token, each in FOUND[kind].items():
            assert each["description"], token
            for name, given in {**each["properties"], **each.get("inputProperties", {})}.items():
                assert given.get("description"), f"{token}.{name}"


def test_the_file_is_that_of_the_components() -> None:
    found = changes(written(paths.ROOT), json.loads(generated()))
    assert lines(found) == [], "run: .venv/bin/python -m toolchain schema"
    assert written(paths.ROOT) == json.loads(generated()), "run: python -m toolchain schema"


TOKEN = "dds:index:Application"
ARGUMENTS = ("resources", TOKEN, "inputProperties")
OUTPUTS = ("resources", TOKEN, "properties")
TYPE = ("types", "dds:index:Port", "properties")
STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("path", "change", "line"),
    [
        (ARGUMENTS, lambda p: p.pop("env"), f"breaking: argument env of {TOKEN} is removed"),
        (OUTPUTS, lambda p: p.pop("labels"), f"breaking: output labels of {TOKEN} is removed"),
        (TYPE, lambda p: p.pop("name"), "breaking: argument name of dds:index:Port is removed"),
        (("resources",), lambda p: p.pop(TOKEN), f"breaking: {TOKEN} is removed"),
        (
            ARGUMENTS,
            lambda p: p.update(replicas=STRING),
            f"breaking: argument replicas of {TOKEN} has another type",
        ),
        (ARGUMENTS, lambda p: p.update(more=STRING), f"argument more of {TOKEN} is new"),
        (OUTPUTS, lambda p: p.update(more=STRING), f"output more of {TOKEN} is new"),
        (
            ("resources", TOKEN, "requiredInputs"),
            lambda p: p.append("env"),
            f"breaking: argument env of {TOKEN} is required now",
        ),
        (
            ("resources", TOKEN, "requiredInputs"),
            lambda p: p.remove("image"),
            f"argument image of {TOKEN} is optional now",
        ),
        (
            ("resources", TOKEN, "required"),
            lambda p: p.remove("labels"),
            f"breaking: output labels of {TOKEN} is optional now",
        ),
        (
            ("resources", TOKEN, "required"),
            lambda p: p.append("endpoint"),
            f"output endpoint of {TOKEN} is required now",
        ),
    ],
)
def test_a_change_is_named(
    path: tuple[str, ...], change: Callable[[Any], object], line: str
) -> None:
    after = copy.deepcopy(FOUND)
    part: Any = after
    for key in path:
        part = part[key]
    change(part)
    assert lines(changes(FOUND, after)) == [line]


def test_a_new_argument_that_is_required_breaks() -> None:
    after = copy.deepcopy(FOUND)
    after["resources"][TOKEN]["inputProperties"]["more"] = STRING
    after["resources"][TOKEN]["requiredInputs"].append("more")
    assert lines(changes(FOUND, after)) == [
        f"breaking: argument more of {TOKEN} is new and required"
    ]
