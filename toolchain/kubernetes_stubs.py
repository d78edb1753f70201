"""Short type stubs of pulumi_kubernetes, which make type checking faster.

The package has 470,000 lines: mypy needs minutes and gigabytes for them, even after a change of one
line. The stubs have the types that this project uses (arguments as dictionaries, resources, outputs
of the API groups in use), without docstrings, bodies, patches, classes of arguments and other groups.
The import of a group that is not listed is an error: add it to `GROUPS`.
"""

import ast
import hashlib
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

from toolchain import cache, paths

GROUPS = (
    "apps/v1",
    "autoscaling/v2",
    "batch/v1",
    "coordination/v1",
    "core/v1",
    "meta/v1",
    "networking/v1",
    "policy/v1",
    "rbac/v1",
    "storage/v1",
)
_PACKAGE = "pulumi_kubernetes"
# Pulumi's own Input repeats the type inside Awaitable and Output. For nested arguments mypy would try
# every combination, and take minutes for one error.
_UTILITIES = """
from typing import Any, Awaitable, TypeAlias, TypeVar, Union
import pulumi
T = TypeVar("T")
Input: TypeAlias = Union[T, Awaitable[Any], pulumi.Output[Any]]
def __getattr__(name: str) -> Any: ...
"""
_ELLIPSIS = ast.Expr(ast.Constant(...))


def ensure() -> Path:
    """Return the folder for mypy's path, which is generated once per version of the package."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(metadata.version("pulumi-kubernetes").encode())
    final = paths.cache_root() / "stubs" / digest.hexdigest()[:16]
    with resources.as_file(resources.files(_PACKAGE)) as package:
        return cache.made_once(final, "type stubs", lambda part: write(package, part))


def write(package: Path, folder: Path) -> None:
    """Write the stubs of the package at `package` into `folder`."""
    root = folder / _PACKAGE
    for group in GROUPS:
        _write_group(package / group, root / group)
    tops = sorted({group.split("/", maxsplit=1)[0] for group in GROUPS})
    for top in tops:
        versions = sorted(g.split("/")[1] for g in GROUPS if g.startswith(f"{top}/"))
        _write(root / top / "__init__.pyi", [f"from . import {v} as {v}" for v in versions])
    _write(root / "_inputs.pyi", [_stub(package / "_inputs.py")])
    _write(root / "provider.pyi", [_stub(package / "provider.py")])
    _write(
        root / "_utilities.pyi", ["from typing import Any", "def __getattr__(n: str) -> Any: ..."]
    )
    _write(
        root / "__init__.pyi",
        ["from .provider import *", "from ._inputs import *"]
        + [f"from . import {top} as {top}" for top in tops],
    )


def _write_group(source: Path, target: Path) -> None:
    names = [
        path.stem
        for path in sorted(source.glob("*.py"))
        if path.stem != "__init__" and not path.stem.endswith(("Patch", "List"))
    ]
    for name in names:
        _write(target / f"{name}.pyi", [_stub(source / f"{name}.py")])
    stars = [f"from .{name} import *" for name in names if name != "outputs"]
    _write(target / "__init__.pyi", [*stars, "from . import outputs as outputs"])


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _stub(path: Path) -> str:
    module = ast.parse(path.read_text(encoding="utf-8"))
    module.body = [kept for node in module.body for kept in _kept(node)]
    text = ast.unparse(ast.fix_missing_locations(module)).replace("pulumi.Input[", "_Input[")
    return f"from {_PACKAGE}._utilities import Input as _Input\n{text}"


def _kept(node: ast.stmt) -> Iterator[ast.stmt]:
    if isinstance(node, ast.ClassDef):
        if not _is_left_out(node.name):
            yield _class(node)
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
        # __all__
        node.value.elts = [
            item
            for item in node.value.elts
            if not (isinstance(item, ast.Constant) and _is_left_out(str(item.value)))
        ]
        yield node
    elif isinstance(node, ast.If) and ast.unparse(node.test) == "not MYPY":
        # Types of the arguments as dictionaries, which the package hides from mypy for speed.
        for inner in node.body:
            yield from _kept(inner)
    elif not isinstance(node, ast.Expr):
        yield node


def _is_left_out(name: str) -> bool:
    return name.endswith(("Args", "Patch", "PatchArgsDict")) and name != "ProviderArgs"


def _class(node: ast.ClassDef) -> ast.ClassDef:
    is_output = any("output_type" in ast.unparse(decorator) for decorator in node.decorator_list)
    node.decorator_list = []
    body: list[ast.stmt] = []
    for item in node.body:
        if isinstance(item, ast.AnnAssign | ast.Assign):
            body.append(item)
        elif isinstance(item, ast.FunctionDef):
            body += _function(item, is_output=is_output)
    node.body = body or [_ELLIPSIS]
    return node


def _function(node: ast.FunctionDef, *, is_output: bool) -> Iterator[ast.stmt]:
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    is_property = any(text.endswith("property") for text in decorators)
    if is_property:
        node.decorator_list = [ast.Name("property")]
    elif node.name == "__init__" and not is_output and _is_by_keyword(node):
        # Only one of two overloads is kept: comparing them is most of mypy's work.
        node.decorator_list = []
        node.returns = ast.Constant(None)
        for argument in node.args.args:
            if argument.annotation is None:
                argument.annotation = ast.Name("Any")
    else:
        return
    node.args.defaults = [_ELLIPSIS.value for _ in node.args.defaults]
    node.args.kw_defaults = [default and _ELLIPSIS.value for default in node.args.kw_defaults]
    node.body = [_ELLIPSIS]
    yield _OnlyTyped().visit(node)


def _is_by_keyword(node: ast.FunctionDef) -> bool:
    return node.args.vararg is None and all(item.arg != "args" for item in node.args.args)


class _OnlyTyped(ast.NodeTransformer):
    """Replaces `Union['XArgs', 'XArgsDict']` by the second: this project uses dictionaries."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if ast.unparse(node.value) == "Union" and isinstance(node.slice, ast.Tuple):
            kept = [item for item in node.slice.elts if not _names_args_class(item)]
            if len(kept) == 1:
                return kept[0]
            node.slice.elts = kept
        return node


def _names_args_class(item: ast.expr) -> bool:
    return isinstance(item, ast.Constant) and str(item.value).endswith("Args")
