"""Flows: the directed acyclic graph of a pipeline's steps, checked and drawn."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from dds_patterns.arguments import DISTINCT, NOT_EMPTY, InputError, check_fields, matching, nearest
from dds_patterns.arguments.names import LABEL_LIMIT, dns_label
from dds_patterns.arguments.place import Place

STEP_LIMIT = 40
"""Longest name of a step. The flow's name may have the remaining characters of a DNS label."""

StepName = Annotated[str, dns_label(STEP_LIMIT)]
"""Name of a step."""
FieldName = Annotated[
    str,
    matching(
        r"\w[-.\w]*",
        "the name of a field of the event: letters, digits, dashes, dots and underscores",
        most=128,
        odd=("a b", 'a"b', "a\nb", "#1", "a;b", "{a}", "-a"),
    ),
]
"""A field of an event. The diagram shows it, too."""


@dataclass(frozen=True)
class Next:
    """What follows a step."""

    required: tuple[StepName, ...] = ()
    """Steps that every event goes on to."""
    optional: Mapping[FieldName, StepName] = field(default_factory=dict)
    """Steps that an event goes on to if it has a field, by the field's name. ``null`` counts as no
    field."""

    def __post_init__(self) -> None:
        check_fields("Next", self)


@dataclass(frozen=True)
class Flow:
    """The directed graph of a pipeline. Every event enters at ``first``."""

    name: Annotated[str, dns_label(LABEL_LIMIT - STEP_LIMIT)]
    """Name of the pipeline."""
    first: StepName
    """The step that receives published events."""
    steps: Annotated[Mapping[StepName, Next], NOT_EMPTY]
    """Every step, by its name, with what follows it."""

    def __post_init__(self) -> None:
        where = f'Flow "{self.name}"'
        check_fields(where, self)
        for name in self.steps:
            argument = f"steps[{name}]"
            targets = [target for target, _ in self.edges(name)]
            for target in targets:
                if target not in self.steps:
                    raise InputError(
                        where, argument, target,
                        f"is no step of the flow; {nearest(target, self.steps)}",
                    )  # fmt: skip
            DISTINCT.check(Place(where, argument), targets)
        if self.first not in self.steps:
            raise InputError(where, "first", self.first, nearest(self.first, self.steps))
        reached: set[str] = set()
        self._follow(where, self.first, [], reached)
        # A cycle of unreachable steps is refused, too.
        everything = {*reached}
        for name in self.steps:
            self._follow(where, name, [], everything)
        for name in self.steps:
            if name not in reached:
                raise InputError(
                    where, "steps", name,
                    f"is unreachable: no path from {self.first} leads to it",
                )  # fmt: skip

    def edges(self, step: str) -> list[tuple[str, str | None]]:
        """The steps that follow one, each with the field that it depends on, None if required."""
        following = self.steps[step]
        return [
            *((target, None) for target in following.required),
            *((target, key) for key, target in following.optional.items()),
        ]

    def paths(self) -> list[tuple[str, ...]]:
        """Every path that an event can take from the first step, in order of declaration."""

        def onward(path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
            yield path
            for target, _ in self.edges(path[-1]):
                yield from onward((*path, target))

        return list(onward((self.first,)))

    def mermaid(self) -> str:
        """The flow as a mermaid flowchart: solid edges are required, dashed ones optional."""
        numbers = {name: f"s{number}" for number, name in enumerate(self.steps)}
        lines = ["flowchart LR", f'    event(["{self.name}"]) --> {numbers[self.first]}']
        lines += [f'    {number}["{name}"]' for name, number in numbers.items()]
        for name in self.steps:
            for target, key in self.edges(name):
                arrow = "-->" if key is None else f'-. "{key}" .->'
                lines.append(f"    {numbers[name]} {arrow} {numbers[target]}")
        return "\n".join(lines) + "\n"

    def _follow(self, where: str, name: str, path: list[str], done: set[str]) -> None:
        """Add a step and its descendants; refuse a cycle."""
        if name in path:
            cycle = " to ".join([*path[path.index(name) :], name])
            raise InputError(
                where, "steps", cycle,
                "is a cycle: an event would never end; remove one of these edges",
            )  # fmt: skip
        if name not in done:
            for target, _ in self.edges(name):
                self._follow(where, target, [*path, name], done)
            done.add(name)
