"""The tables of arguments in the docs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import pytest

import dds_patterns
from dds_patterns.arguments import NOT_EMPTY, Default, DefaultsTo, Later, Secret, between, one_of
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.cron import Schedule
from dds_patterns.arguments.declared import arguments_of
from dds_patterns.arguments.describe import descriptions, rows, table
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import DnsLabel, Selector
from dds_patterns.arguments.quantities import Resources
from dds_patterns.pods.companion import Companion
from dds_patterns.workloads.arguments import PodArgs
from toolchain import reference

ROOT = Path(__file__).parents[2]


class PartArgs(TypedDict):
    """A part."""

    size: Annotated[float, between(0.5)]
    """How large | it is."""


class BaseArgs(TypedDict):
    """What several have."""

    image: Later[Image]
    """An image
    of ``this``."""


class WholeArgs(BaseArgs):
    """One of them."""

    mode: NotRequired[Annotated[str, one_of("a", "b"), Default("a")]]
    """What it does."""
    password: NotRequired[Secret[str]]
    clients: NotRequired[Annotated[Sequence[Selector], NOT_EMPTY, Default(({},))]]
    """Who may ask."""
    parts: NotRequired[Annotated[Sequence[PartArgs], Default(())]]
    """What it has."""
    other: NotRequired[Annotated[PartArgs, Default({})]]
    """Another one."""
    seconds: NotRequired[
        Annotated[
            float,
            between(1, 60),
            Constraint(
                "a number with at most two decimals", lambda number: round(number, 2) == number
            ),
            DefaultsTo("a tenth"),
        ]
    ]
    """How long."""
    resources: NotRequired[Annotated[Resources, Default({})]]
    """What it needs."""
    companions: NotRequired[Sequence[Companion]]
    """Who is beside it."""
    modes: NotRequired[Sequence[Annotated[str, one_of("a", "b")]]]
    """What it can do."""
    schedules: NotRequired[Mapping[DnsLabel, Later[Schedule]]]
    """When, by name."""
    quiet: NotRequired[Annotated[bool, Default(False)]]
    """Whether it says nothing."""


def test_a_row_says_what_is_declared() -> None:
    assert [(row.path, row.takes, row.default, row.says) for row in rows(WholeArgs)] == [
        ("image", "an image reference, name:tag, or an Output", "required", "An image of ``this``."),
        ("mode", "one of a, b", "`a`", "What it does."),
        ("password", "a string, or a secret Output", "none", ""),
        (
            "clients",
            "a list, each a mapping from a key to a label's value; not empty",
            "`[{}]`",
            "Who may ask.",
        ),
        ("parts", "a list, each a mapping", "none", "What it has."),
        ("parts[].size", "a number at least 0.5", "required", "How large | it is."),
        ("other", "a mapping, as `parts[]`", "its parts'", "Another one."),
        ("seconds", "a number from 1 to 60, with at most two decimals", "a tenth", "How long."),
        ("resources",
         'Kubernetes\' `ResourceRequirements`, requests and limits; limits.cpu "none" is no limit',
         "none", "What it needs."),
        ("companions", f"a list, each `Companion`, such as `{Companion.GIVEN_BY}`", "none",
         "Who is beside it."),
        ("modes", "a list, each one of a, b", "none", "What it can do."),
        ("schedules", "a mapping from a DNS label to five fields as cron reads them (or an Output)",
         "none", "When, by name."),
        ("quiet", "true or false", "False", "Whether it says nothing."),
    ]  # fmt: skip


def test_a_row_is_one_line() -> None:
    lines = table(WholeArgs).splitlines()
    assert lines[0] == "| argument | takes | default | |"
    assert (
        lines[2]
        == "| `image` | an image reference, name:tag, or an Output | required | An image of `this`. |"
    )
    assert r"How large \| it is." in lines[7]
    assert len(lines) == 2 + len(list(rows(WholeArgs)))


def test_what_is_inherited_is_described() -> None:
    inherited = set(arguments_of(PodArgs))
    for name in ("Application", "StatefulApplication", "Task", "ScheduledTask", "Singleton"):
        said = descriptions(getattr(dds_patterns, f"{name}Args"))
        assert inherited <= set(said)


@pytest.mark.parametrize("name", reference.described())
def test_every_argument_is_described(name: str) -> None:
    declaration = getattr(dds_patterns, f"{name}Args")
    assert [row.path for row in rows(declaration) if not row.says] == []


@pytest.mark.parametrize("name", reference.described())
def test_every_component_has_its_table_in_one_page(name: str) -> None:
    marks = [
        page
        for page in (ROOT / "docs").rglob("*.md")
        for mark in reference.TABLE.finditer(page.read_text())
        if mark[1] == name
    ]
    assert len(marks) == 1


def test_the_tables_are_what_the_declarations_say() -> None:
    stale = [
        str(page.relative_to(ROOT))
        for page, text in reference.pages().items()
        if page.read_text() != text
    ]
    assert stale == [], "run: .venv/bin/python -m toolchain reference"
