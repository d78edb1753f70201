"""Imports go downwards only, as docs/architecture.md says."""

import ast
import dataclasses
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest

from dds_patterns.arguments.declared import Declared, arguments_of

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "components"

# A package imports from those with a smaller number, and from itself.
LAYERS = {
    "dds_patterns.arguments": -1,
    "dds_patterns.values": 0,
    "dds_patterns.pods": 1,
    "dds_patterns.workloads": 2,
    "dds_patterns.platform": 3,
    "dds_patterns.single_node": 4,
    "dds_patterns.serving": 5,
    "dds_patterns.batch": 5,
    "dds_patterns": 6,
    "stacks": 7,
    "__main__": 8,
}
TOOLS = "toolchain"
# What stands in for the engine runs the program, lint asks which compositions there are, and the
# reference is made from the components; the rest of the driver does not know it.
RUNS_THE_PROGRAM = {"toolchain.render", "toolchain.lint", "toolchain.reference"}


def modules() -> dict[str, Path]:
    found = {"__main__": ROOT / "__main__.py"}
    for root, folder in ((PACKAGES, "dds_patterns"), (ROOT, "stacks"), (ROOT, TOOLS)):
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path
    return found


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(module: str) -> str | None:
    """The layer that a module belongs to: the longest that it lies in."""
    if module == "dds_patterns":
        return "dds_patterns"
    matching = [n for n in LAYERS if module == n or module.startswith(f"{n}.")]
    return max(matching, key=len, default=None)


MODULES = modules()


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name in MODULES}


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith(TOOLS)])
def test_imports_go_downwards(module: str) -> None:
    own = layer(module)
    assert own is not None, "a new folder needs a layer"
    for imported in ours(MODULES[module]):
        assert not imported.startswith(TOOLS), f"{module} imports the driver's {imported}"
        other = layer(imported)
        assert other is not None
        if other == "dds_patterns" and own in LAYERS and LAYERS[own] < LAYERS["dds_patterns"]:
            # `from dds_patterns.values import names` names the package on its way.
            continue
        assert other == own or LAYERS[other] < LAYERS[own], f"{module} imports {imported}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith(TOOLS)])
def test_the_driver_does_not_know_the_program(module: str) -> None:
    if module in RUNS_THE_PROGRAM:
        return
    known = {name for name in ours(MODULES[module]) if not name.startswith(TOOLS)}
    assert known == set()


def test_there_is_no_circle_of_modules() -> None:
    graph = {name: ours(path) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in sorted(graph[name]):
                # A package's __init__ that gathers its modules is no dependency of theirs.
                if not name.startswith(f"{other}."):
                    visit(other, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("dds_patterns")])
def test_annotations_are_values(module: str) -> None:
    # Pulumi's schema analyser fails on annotations that are strings.
    assert "__future__" not in set(imports(MODULES[module]))


def test_every_component_is_exported_under_its_token() -> None:
    import dds_patterns  # noqa: PLC0415

    bases: dict[str, set[str]] = {}
    texts = {}
    for module, path in MODULES.items():
        if module.startswith("dds_patterns."):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ClassDef):
                    bases[node.name] = {ast.unparse(base) for base in node.bases}
                    texts[node.name] = text
    found: set[str] = set()
    while more := {n for n in bases if bases[n] & {*found, "pulumi.ComponentResource"}} - found:
        found |= more
    assert found
    # What several components have in common is none itself.
    common = {name for name in found if any(name in bases[other] for other in found)}
    assert common.isdisjoint(dds_patterns.__all__)
    for name in found - common:
        assert f'"dds:index:{name}"' in texts[name]
        assert name in dds_patterns.__all__, f"{name} is not exported"
        assert f"{name}Args" in dds_patterns.__all__
    for name in dds_patterns.__all__:
        exported = getattr(dds_patterns, name)
        # A type alias has no name of its own.
        assert not isinstance(exported, type) or exported.__name__ == name


def test_whatever_arguments_and_attributes_are_made_of_is_exported() -> None:
    import dds_patterns  # noqa: PLC0415

    found: set[type] = set()

    def look(declared: Declared) -> None:
        kind = declared.type
        if declared.form in ("arguments", "value") and kind not in found:
            found.add(kind)
            if not issubclass(kind, pulumi.Resource):
                for each in arguments_of(kind).values():
                    look(each)
        for part in (declared.items, declared.keys):
            if part is not None:
                look(part)

    for name in dds_patterns.__all__:
        each = getattr(dds_patterns, name)
        if typing.is_typeddict(each) or dataclasses.is_dataclass(each):
            look(Declared("arguments", each))
        elif issubclass(each, pulumi.Resource):
            found |= set(filter(ours_alone, named_in(each.__annotations__.values())))
    assert {kind.__name__ for kind in found - {pulumi.Resource}} <= set(dds_patterns.__all__)


def ours_alone(kind: type) -> bool:
    return kind.__module__.startswith("dds_patterns.")


def named_in(annotations: Iterable[Any]) -> Iterator[type]:
    """The classes in annotations, such as those of ``tuple[Alert, ...]``."""
    for annotation in annotations:
        if parameters := typing.get_args(annotation):
            yield from named_in(parameters)
        elif isinstance(annotation, type):
            yield annotation


def test_the_checks_can_fail(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("from dds_patterns.workloads import pod\nimport stacks.settings\n")
    assert {"dds_patterns.workloads.pod", "stacks.settings"} <= ours(path)
    assert layer("dds_patterns.values.reach") == "dds_patterns.values"
    assert layer("dds_patterns.unheard_of.x") == "dds_patterns"
