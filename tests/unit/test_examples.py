"""The programs under ``examples``: each is whole, valid and hardened, with nothing but its config."""

import runpy
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates
from toolchain.graph import Graph, build

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted(path.parent for path in EXAMPLES.glob("*/__main__.py"))
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]


def declared(program: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((program / "Pulumi.yaml").read_text())
    return document


def made(program: Path, preview: bool = False) -> Graph:
    # Under mocks every project has the same name, so the keys are without that of the program.
    config = {f"dds:{key}": f"registry.example/{key}:1.0" for key in declared(program)["config"]}

    def run() -> None:
        assert pulumi.get_project() == "dds"
        runpy.run_path(str(program / "__main__.py"), run_name="__main__")

    return build(run, preview=preview, config=config)


def test_there_are_examples() -> None:
    assert PROGRAMS


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_it_makes_valid_hardened_objects(program: Path, preview: bool) -> None:
    graph = made(program, preview)
    if preview:
        return
    assert_valid(objects(graph))
    for template in templates(graph):
        # Members of a store do not drain: their clients go to the others by themselves.
        found = [rule for rule in violations(template) if not rule.endswith(": no drain")]
        assert found == []


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_it_is_a_project_of_its_own_and_says_how_to_run_it(program: Path) -> None:
    assert declared(program)["name"] != "dds"
    text = (program / "README.md").read_text()
    for key in declared(program)["config"]:
        assert f"pulumi config set {key} " in text
