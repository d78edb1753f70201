"""Password: random, stable, secret."""

import subprocess
import sys
from pathlib import Path

import pulumi
import pytest
from pulumi.dynamic.dynamic import serialize_provider

from dds_patterns import Password
from dds_patterns.platform.generated import PasswordProvider, rotated
from toolchain.graph import build

ROOT = Path(__file__).parents[2]


def test_a_password_is_drawn_on_creation() -> None:
    provider = PasswordProvider()
    first = provider.create({"length": 40.0, "keepers": {}}).outs or {}
    second = provider.create({"length": 40.0, "keepers": {}}).outs or {}
    assert len(first["value"]) == len(second["value"]) == 40
    assert first["value"] != second["value"]
    assert first["value"].isalnum()


@pytest.mark.parametrize(
    ("news", "replaces"),
    [
        ({}, []),
        ({"length": 33.0}, ["length"]),
        ({"keepers": {"year": "2027"}}, ["keepers"]),
    ],
)
def test_it_stays_until_a_length_or_a_keeper_changes(
    news: dict[str, object], replaces: list[str]
) -> None:
    olds = {"length": 32.0, "keepers": {}, "generation": 1.0, "value": "x", "former": ""}
    given = {"length": 32.0, "keepers": {}, "generation": 1.0, **news}
    diff = PasswordProvider().diff("id", olds, given)
    assert diff.replaces == replaces
    assert diff.changes is bool(replaces)


def test_a_state_from_before_there_were_generations_is_completed_with_its_password() -> None:
    olds = {"length": 32.0, "keepers": {}, "value": "x"}
    news = {"length": 32.0, "keepers": {}, "generation": 1.0}
    diff = PasswordProvider().diff("id", olds, news)
    # Otherwise the former one would be unknown in every preview, and all that has it would change.
    assert diff.changes
    assert not diff.replaces
    outs = PasswordProvider().update("id", olds, news).outs or {}
    assert (outs["value"], outs["former"], outs["former_generation"]) == ("x", "", 0)
    assert not PasswordProvider().diff("id", outs, news).changes
    second = PasswordProvider().update("id", olds, {**news, "generation": 2.0}).outs or {}
    assert second["value"] != "x"
    assert (second["former"], second["former_generation"]) == ("x", 1)


def test_another_generation_keeps_the_former_one() -> None:
    provider = PasswordProvider()
    props = {"length": 32.0, "keepers": {}, "generation": 1.0}
    first = provider.create(props).outs or {}
    assert (first["former"], first["former_generation"]) == ("", 0)
    diff = provider.diff("id", first, {**props, "generation": 5.0})
    assert diff.changes
    assert not diff.replaces
    fifth = provider.update("id", first, {**props, "generation": 5.0}).outs or {}
    assert len(fifth["value"]) == 32
    assert fifth["value"] != first["value"]
    assert (fifth["former"], fifth["former_generation"]) == (first["value"], 1)
    assert not provider.diff("id", fifth, {**props, "generation": 5.0}).changes
    # Any other number is another generation, a lower one as well.
    second = provider.update("id", fifth, {**props, "generation": 2.0}).outs or {}
    assert (second["former"], second["former_generation"]) == (fifth["value"], 5)


@pytest.mark.parametrize(("keep", "accepted"), [(True, 2), (False, 1)])
def test_a_server_takes_the_former_one_as_long_as_it_is_kept(keep: bool, accepted: int) -> None:
    found: list[list[str]] = []

    def program() -> None:
        given = rotated("p", {"generation": 2, "keep_former": keep}, pulumi.ResourceOptions())
        given.accepted.apply(found.append)

    node = build(program).one("Password")
    expected = [node.outputs["value"], node.outputs["former"]]
    assert found == [expected[:accepted]]


def test_the_value_is_declared_secret() -> None:
    node = build(lambda: Password("p")).one("Password")
    assert node.additional_secret_outputs == ("value", "former")
    assert node.inputs["length"] == 32


def test_the_engine_can_load_the_provider_from_the_programs_folder() -> None:
    serialised = serialize_provider(PasswordProvider())
    code = (
        "import base64, dill, sys; sys.path.insert(0, '.');"
        f"provider = dill.loads(base64.b64decode({serialised!r}));"
        "print(len(provider.create({'length': 16, 'keepers': {}}).outs['value']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "16"
