"""Password: random, stable, secret."""

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from pulumi.dynamic.dynamic import serialize_provider

from components import Password
from components.platform.generated import PasswordProvider
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
        ({"length": 32.0, "keepers": {}}, []),
        ({"length": 33.0, "keepers": {}}, ["length"]),
        ({"length": 32.0, "keepers": {"year": "2027"}}, ["keepers"]),
    ],
)
def test_it_stays_until_a_length_or_a_keeper_changes(
    news: dict[str, object], replaces: list[str]
) -> None:
    olds = {"length": 32.0, "keepers": {}, "value": "x"}
    diff = PasswordProvider().diff("id", olds, news)
    assert diff.replaces == replaces
    assert diff.changes is bool(replaces)


def test_the_value_is_declared_secret() -> None:
    node = build(lambda: Password("p")).one("Password")
    assert node.additional_secret_outputs == ("value",)
    assert node.inputs["length"] == 32


def test_the_provider_is_a_reference_so_that_editing_the_module_changes_no_state() -> None:
    serialised = serialize_provider(PasswordProvider())
    assert b"components.platform.generated" in base64.b64decode(serialised)
    assert len(serialised) < 400


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
