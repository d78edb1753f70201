"""`python -m toolchain reference`: the tables of arguments in the docs, from the declarations.

A page has the table of a component, or of a value that passes between components, between
``<!-- arguments: Topz -->`` and ``<!-- end -->``.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pulumi

import components
from components.arguments.describe import table

_ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"<!-- arguments: (\w+) -->\n(?:.*?\n)??<!-- end -->", re.DOTALL)
"""A table with its marks."""


def main(arguments: Sequence[str]) -> int:
    """Write the tables anew; the command line of ``python -m toolchain reference``."""
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
    return {
        page: TABLE.sub(_filled, page.read_text(encoding="utf-8"))
        for page in sorted((_ROOT / "docs").rglob("*.md"))
    }


def described() -> list[str]:
    """Names of the components whose arguments are described: all that a program can use."""
    found = {name: getattr(components, name) for name in components.__all__}
    return [
        name
        for name, each in found.items()
        if isinstance(each, type) and issubclass(each, pulumi.Resource)
    ]


def _filled(mark: re.Match[str]) -> str:
    name = mark[1] if f"{mark[1]}Args" not in components.__all__ else f"{mark[1]}Args"
    return f"<!-- arguments: {mark[1]} -->\n{table(getattr(components, name))}<!-- end -->"
