"""Flows: which step of a pipeline follows which, checked and drawn from one declaration."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from components.arguments.errors import InputError
from components.values import checks


@dataclass(frozen=True)
class Next:
    """What follows a step."""

    required: tuple[str, ...] = ()
    """Steps that every event goes on to."""
    optional: Mapping[str, str] = field(default_factory=dict)
    """Steps that an event goes on to if it has a field, by the field's name. ``null`` is none."""


@dataclass(frozen=True)
class Flow:
    """The directed graph of a pipeline. Every event enters at ``first``."""

    name: str
    """Name of the pipeline, a DNS label."""
    first: str
    """The step that gets what is published."""
    steps: Mapping[str, Next]
    """Every step, by its name (a DNS label of at most 40 characters), with what follows it."""

    def __post_init__(self) -> None:
        where = f'Flow "{self.name}"'
        checks.dns_label(where, "name", self.name, reserve=_STEP)
        if not self.steps:
            raise InputError(where, "steps", dict(self.steps), "must have at least one step")
        for name, following in self.steps.items():
            argument = f"steps[{name}]"
            checks.dns_label(where, argument, name, reserve=63 - _STEP)
            if not _is_next(following):
                raise InputError(where, argument, following, "must be a Next")
            if not _is_several(following.required):
                raise InputError(
                    where, f"{argument}.required", following.required, "must be a tuple of steps"
                )
            for key in following.optional:
                if not key:
                    raise InputError(where, f"{argument}.optional", key, "must name a field")
            targets = [target for target, _ in self.edges(name)]
            for target in targets:
                if target not in self.steps:
                    raise InputError(
                        where, argument, target,
                        f"is no step of the flow; {checks.nearest(target, self.steps)}",
                    )  # fmt: skip
            checks.unique(where, argument, targets)
        if self.first not in self.steps:
            raise InputError(where, "first", self.first, checks.nearest(self.first, self.steps))
        self._refuse_circles(where)
        for name in self.steps:
            if name not in self._reached():
                raise InputError(
                    where, "steps", name,
                    f"is reached by no event: no step on a path from {self.first} names it",
                )  # fmt: skip

    def edges(self, step: str) -> list[tuple[str, str | None]]:
        """The steps that follow one, each with the field that it depends on, None if required."""
        following = self.steps[step]
        return [
            *((target, None) for target in following.required),
            *((target, key) for key, target in following.optional.items()),
        ]

    def paths(self) -> list[tuple[str, ...]]:
        """Every way an event can go, from the first step on, in order of their declaration."""

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

    def _refuse_circles(self, where: str) -> None:
        done: set[str] = set()

        def visit(name: str, path: list[str]) -> None:
            if name in path:
                circle = " to ".join([*path[path.index(name) :], name])
                raise InputError(
                    where, "steps", circle,
                    "is a circle: an event would never end; leave one of these edges out",
                )  # fmt: skip
            if name not in done:
                for target, _ in self.edges(name):
                    visit(target, [*path, name])
                done.add(name)

        # The first one first, so that the path is named as an event would go it.
        for name in [self.first, *self.steps]:
            visit(name, [])

    def _reached(self) -> set[str]:
        found: set[str] = set()
        waiting = [self.first]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += [target for target, _ in self.edges(name)]
        return found


_STEP = 40


def _is_next(value: object) -> bool:
    return isinstance(value, Next)


def _is_several(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)
