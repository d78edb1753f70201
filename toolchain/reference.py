"""`python -m toolchain reference`: generates the tables of arguments in the docs.

The table of a component, or of a value that passes between components, is between
``<!-- arguments: Topz -->`` and ``<!-- end -->``. ``hosting``, which all components have, is
described once, in docs/hosting.md.
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pulumi

import dds_patterns
from dds_patterns.arguments.declared import arguments_of
from dds_patterns.arguments.describe import table
from dds_patterns.pods import hosting
from dds_patterns.pods.images import PROGRAMS

_ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"<!-- arguments: (\w+) -->\n(?:.*?\n)??<!-- end -->", re.DOTALL)
"""A table with its markers."""
_KINDS = re.compile(r"(<!-- kinds of hosting -->\n)(?:.*?\n)??(<!-- end -->)", re.DOTALL)
_IMAGES = re.compile(r"(<!-- images of programs -->\n)(?:.*?\n)??(<!-- end -->)", re.DOTALL)
_PROGRAM = re.compile(r'``hosting\.images\["([-\w]+)"\]``')
_HOSTING = _ROOT / "docs" / "hosting.md"


def main(arguments: Sequence[str]) -> int:
    """Generate the tables; the command line of ``python -m toolchain reference``."""
    argparse.ArgumentParser(prog="reference", description=__doc__.partition("\n")[0]).parse_args(
        arguments
    )
    for page, text in pages().items():
        if page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{page.relative_to(_ROOT)}\n")
    return 0


def pages() -> Mapping[Path, str]:
    """The text that each page of the docs must have."""
    found = {}
    for page in sorted((_ROOT / "docs").rglob("*.md")):
        text = TABLE.sub(partial(_filled, page), page.read_text(encoding="utf-8"))
        text = _IMAGES.sub(f"\\1{images_of_programs()}\\2", text)
        found[page] = _KINDS.sub(f"\\1{kinds_of_hosting()}\\2", text)
    return found


def kinds_of_hosting() -> str:
    """A Markdown table of the keys of ``hosting`` by kind, with the components."""
    taken: dict[type, list[str]] = {}
    for name in described():
        arguments = arguments_of(getattr(dds_patterns, f"{name}Args"))
        if "hosting" in arguments:
            taken.setdefault(arguments["hosting"].type, []).append(name)
    known = list(arguments_of(hosting.Hosting))
    rows = {
        kind: [key for key in known if key in arguments_of(kind)]
        for kind in sorted(taken, key=lambda kind: (len(arguments_of(kind)), kind.__name__))
    }
    lines = ["| kind | keys | components |\n|---|---|---|\n"]
    listed: list[type] = []
    for kind, keys in rows.items():
        # The row names the largest former kind that is a subset, and the additional keys.
        parts = [other for other in listed if set(rows[other]) <= set(keys)]
        base = max(parts, key=lambda other: len(rows[other]), default=None)
        added = [f"`{key}`" for key in keys if base is None or key not in rows[base]]
        if base is not None:
            added.insert(0, f"those of {base.__name__}")
        lines.append(
            f"| `{kind.__name__}` | {', '.join(added)} | {', '.join(sorted(taken[kind]))} |\n"
        )
        listed.append(kind)
    return "".join(lines)


def images_of_programs() -> str:
    """The programs that components run, with their upstream images, a table in Markdown."""
    users: dict[str, list[str]] = {name: [] for name in PROGRAMS}
    for component in described():
        for name in dict.fromkeys(programs_of(getattr(dds_patterns, f"{component}Args")).values()):
            users[name].append(component)
    lines = ["| name | without `hosting.images` | run by |\n|---|---|---|\n"]
    for name, upstream in PROGRAMS.items():
        default = f"`{upstream}`" if upstream else "required"
        lines.append(f"| `{name}` | {default} | {', '.join(sorted(users[name]))} |\n")
    return "".join(lines)


def programs_of(declaration: type) -> Mapping[str, str]:
    """The names in ``hosting.images`` that a component uses, by the argument that each replaces."""
    return {
        key: found[1]
        for key, declared in arguments_of(declaration).items()
        if declared.computed and (found := _PROGRAM.match(declared.computed.says))
    }


def described() -> list[str]:
    """Names of all public components."""
    found = {name: getattr(dds_patterns, name) for name in dds_patterns.__all__}
    return [
        name
        for name, each in found.items()
        if isinstance(each, type) and issubclass(each, pulumi.Resource)
    ]


def _filled(page: Path, mark: re.Match[str]) -> str:
    name = mark[1] if f"{mark[1]}Args" not in dds_patterns.__all__ else f"{mark[1]}Args"
    declaration = getattr(dds_patterns, name)
    links: dict[type, str] = {}
    if declaration is not hosting.Hosting:
        path = Path(os.path.relpath(_HOSTING, page.parent)).as_posix()
        links = dict.fromkeys(hosting.KINDS, f"[hosting]({path})")
    return f"<!-- arguments: {mark[1]} -->\n{table(declaration, links)}<!-- end -->"
