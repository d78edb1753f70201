"""Imports go downwards only, as docs/architecture.md says."""

import ast
import dataclasses
import importlib
import json
import re
import subprocess
import sys
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
    "dds_patterns.arguments": -2,
    "dds_patterns.sharding": -1,
    "dds_patterns.values": 0,
    "dds_patterns.pods": 1,
    "dds_patterns.workloads": 2,
    "dds_patterns.platform": 3,
    "dds_patterns.single_node": 4,
    "dds_patterns.serving": 5,
    "dds_patterns.batch": 5,
    "dds_patterns": 6,
    "dds_patterns.wire": 7,
    "stacks": 8,
    "__main__": 9,
}
TOOLS = "toolchain"
# What stands in for the engine runs the program, lint asks which compositions there are, and the
# reference is made from the components; the rest of the driver does not know it.
RUNS_THE_PROGRAM = {"toolchain.render", "toolchain.lint", "toolchain.reference", "toolchain.schema"}
# What programs that use the package import from it.
FRONT_DOOR = (
    "dds_patterns",
    "dds_patterns.arguments",
    "dds_patterns.sharding",
    "dds_patterns.wire",
)
CODE_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Keys that an example in the docs leaves out.
LEFT_OUT = re.compile(r"(?<=\{)\.\.\.,? ?|^ *\.\.\.\n", re.MULTILINE)


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


def users() -> Iterator[tuple[str, str]]:
    """The programs that use the package, and the samples in the docs: name and code."""
    for folder in ("stacks", "examples", "bench"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    pages = (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"))
    for path in sorted(pages):
        for position, block in enumerate(CODE_BLOCK.findall(path.read_text(encoding="utf-8"))):
            yield f"{path.relative_to(ROOT)}[{position}]", LEFT_OUT.sub("", block)


def past_the_front_door(code: str) -> set[str]:
    """Modules, and names in the front door's modules, that code imports although they are not it."""
    bound: dict[str, str] = {}
    modules: set[str] = set()
    names: set[tuple[str, str]] = set()
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules.add(alias.name)
                package = alias.name.partition(".")[0]
                bound[alias.asname or package] = alias.name if alias.asname else package
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
            for alias in node.names:
                names.add((node.module, alias.name))
                bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.add((bound.get(node.value.id, ""), node.attr))
    found = {module for module in modules if is_ours(module) and module not in FRONT_DOOR}
    return found | {
        f"{module}.{name}"
        for module, name in names
        if module in FRONT_DOOR
        and f"{module}.{name}" not in FRONT_DOOR
        and name not in importlib.import_module(module).__all__
    }


def is_ours(module: str) -> bool:
    return module.partition(".")[0] == "dds_patterns"


@pytest.mark.parametrize(("name", "code"), [pytest.param(*each, id=each[0]) for each in users()])
def test_programs_and_docs_use_only_the_front_door(name: str, code: str) -> None:
    assert not past_the_front_door(code), name


@pytest.mark.parametrize(
    ("code", "taken"),
    [
        ("from dds_patterns import Application, sharding\nsharding.plan(3)", set()),
        ("import dds_patterns.sharding\ndds_patterns.sharding.Ring", set()),
        ("from dds_patterns.arguments import Image", set()),
        ("import dds_patterns as dds\ndds.Application.port", set()),
        ("from dds_patterns.workloads.task import Task", {"dds_patterns.workloads.task"}),
        ("from dds_patterns.sharding.plan import plan", {"dds_patterns.sharding.plan"}),
        ("from dds_patterns.arguments import engine", {"dds_patterns.arguments.engine"}),
        ("from dds_patterns.sharding import *", {"dds_patterns.sharding.*"}),
        ("def f():\n    from dds_patterns import pods", {"dds_patterns.pods"}),
        ("import dds_patterns.pods.labels", {"dds_patterns.pods.labels"}),
        ("import dds_patterns as dds\ndds.pods.labels", {"dds_patterns.pods"}),
        ("from dds_patterns import sharding\nsharding.points", {"dds_patterns.sharding.points"}),
    ],
)
def test_what_goes_past_the_front_door_is_seen(code: str, taken: set[str]) -> None:
    assert past_the_front_door(code) == taken


def test_programs_and_samples_are_found() -> None:
    names = [name for name, code in users() if "dds_patterns" in code]
    for folder in ("stacks/", "examples/", "bench/", "README.md", "docs/patterns/"):
        assert any(name.startswith(folder) for name in names), folder


def loaded(program: str) -> set[str]:
    """The modules that a program has loaded at its end."""
    end = "import json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{end}"],
        env={"PYTHONPATH": str(PACKAGES)}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("program", "not_loaded"),
    [
        ("import dds_patterns", {"pulumi", "dds_patterns.arguments", "dds_patterns.sharding"}),
        ("import dds_patterns.sharding", {"pulumi", "dds_patterns.arguments"}),
        ("import dds_patterns.arguments", {"dds_patterns.values", "dds_patterns.sharding"}),
        ("from dds_patterns import Ring", {"pulumi"}),
        (
            "from dds_patterns import Application",
            {"docker", "dds_patterns.platform", "dds_patterns.serving", "dds_patterns.single_node"},
        ),
    ],
)
def test_an_import_loads_only_what_it_needs(program: str, not_loaded: set[str]) -> None:
    assert loaded(program) & not_loaded == set()


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
    for name in {name for name in found - common if not name.startswith("_")}:
        assert f'"dds:index:{name}"' in texts[name]
        assert name in dds_patterns.__all__, f"{name} is not exported"
        assert f"{name}Args" in dds_patterns.__all__
    for name in dds_patterns.__all__:
        assert getattr(dds_patterns, name).__name__ == name


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
