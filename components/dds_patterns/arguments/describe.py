"""The tables of arguments in the docs, generated from the declarations."""

import ast
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from dds_patterns.arguments.constraints import NOT_EMPTY
from dds_patterns.arguments.declared import Declared, arguments_of
from dds_patterns.arguments.plain import SCALARS

_HEAD = "| argument | takes | default | |\n|---|---|---|---|\n"


@dataclass(frozen=True)
class Row:
    """One argument, or a part of one."""

    path: str
    """``storage.size``, ``ports[].name``."""
    takes: str
    """Its type and bounds, and whether an Output is allowed."""
    default: str
    """``required``, a value, or a description of what the component computes."""
    says: str
    """What it is and does."""


def table(declaration: type, elsewhere: Mapping[type, str] | None = None) -> str:
    """The arguments as a table in Markdown, a line each.

    :param elsewhere: TypedDicts that have a table of their own, with a link each
    """
    lines = [
        f"| `{row.path}` | {_plain(row.takes)} | {_cell(row.default)} | {_cell(row.says)} |\n"
        for row in rows(declaration, elsewhere)
    ]
    return _HEAD + "".join(lines)


def rows(declaration: type, elsewhere: Mapping[type, str] | None = None) -> Iterator[Row]:
    """All arguments in the order of their declaration, each before its parts.

    The parts of a TypedDict are described once, at its first use.

    :param elsewhere: TypedDicts that are described elsewhere, with a link each
    """
    yield from _rows("", declaration, {}, elsewhere or {})


def row(declaration: type, key: str) -> Row:
    """One argument alone."""
    declared = arguments_of(declaration)[key]
    return Row(key, _words(declared), _default(declared), descriptions(declaration).get(key, ""))


def _rows(
    path: str, declaration: type, seen: dict[type, str], elsewhere: Mapping[type, str]
) -> Iterator[Row]:
    said = descriptions(declaration)
    for key, declared in arguments_of(declaration).items():
        own = f"{path}.{key}" if path else key
        inner, suffix = declared.innermost, _suffix(declared)
        nested = inner.type if inner.form == "arguments" else None
        takes = _words(declared)
        if nested is not None and nested in elsewhere:
            takes += f", see {elsewhere[nested]}"
        elif nested in seen:
            takes += f", as `{seen[nested]}`"
        yield Row(own, takes, _default(declared), said.get(key, ""))
        if nested is not None and nested not in seen and nested not in elsewhere:
            seen[nested] = f"{own}{suffix}"
            yield from _rows(f"{own}{suffix}", nested, seen, elsewhere)


def _suffix(declared: Declared) -> str:
    """Of lists and mappings: the suffix of their innermost entry's path."""
    return "" if declared.items is None else f"[]{_suffix(declared.items)}"


@functools.cache
def descriptions(declaration: type) -> Mapping[str, str]:
    """The docstring of each key, including those of base classes."""
    found: dict[str, str] = {}
    source = textwrap.dedent(inspect.getsource(declaration))
    definition = cast(ast.ClassDef, ast.parse(source).body[0])
    for base in definition.bases:
        # A TypedDict does not know its bases in every version of Python; its source names them.
        inherited = getattr(sys.modules[declaration.__module__], ast.unparse(base), None)
        if isinstance(inherited, type):
            found |= descriptions(inherited)
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[statement.target.id] = " ".join(text.value.split())
    return found


def _words(declared: Declared, *, short: bool = False) -> str:
    says = list(dict.fromkeys(constraint.says for constraint in declared.constraints))
    if declared.items is not None:
        words = "; ".join([_composed(declared), *says])
    elif declared.form != "scalar" or declared.type is bool:
        words = ", ".join([_single(declared), *says])
    elif declared.type is not str:
        # "a number from 0 to 100, with at most two decimals": what it is stands there once.
        number = f"{_single(declared)} "
        words = (number + ", ".join(text.removeprefix(number) for text in says)).rstrip()
    else:
        # What a constraint says of a text begins with what it is: "a DNS label".
        words = ", ".join(says if set(says) - {NOT_EMPTY.says} else [_single(declared), *says])
        if short and not words.startswith("one of "):
            words = re.split(r"[:,;(]| after ", words)[0].strip()
    if declared.deferrable is None:
        return words
    output = "a secret Output" if declared.deferrable.secret else "an Output"
    return f"{words} (or {output})" if short else f"{words}, or {output}"


def _single(declared: Declared) -> str:
    if declared.form == "scalar":
        return SCALARS[declared.type]
    if declared.form == "value":
        source = getattr(declared.type, "GIVEN_BY", "")
        return f"`{declared.type.__name__}`" + (f", such as `{source}`" if source else "")
    if declared.form == "kubernetes":
        return f"Kubernetes' `{declared.type.__name__.removesuffix('ArgsDict')}`"
    return "a mapping" if declared.form == "arguments" else "anything"


def _composed(declared: Declared) -> str:
    items = _words(cast(Declared, declared.items), short=True)
    if declared.keys is None:
        return f"a list, each {items}"
    return f"a mapping from {_words(declared.keys, short=True)} to {items}"


def _default(declared: Declared) -> str:
    if declared.required:
        return "required"
    if declared.default is None:
        return declared.computed.says if declared.computed else "none"
    return _value(declared.default.value) if declared.form != "arguments" else "its parts'"


def _value(value: Any) -> str:
    if isinstance(value, str):
        return f"`{value}`" if value else "empty"
    if isinstance(value, tuple | list | Mapping) and not value:
        return "none"
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Mapping):
        value = dict(value)
    return f"`{value!r}`" if not isinstance(value, bool | int | float) else str(value)


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", r"\|").replace("\n", " ")


def _plain(text: str) -> str:
    # Asterisks of a schedule are no emphasis.
    return _cell(text).replace("*", r"\*")
