"""What one argument says about another."""

from collections.abc import Collection, Mapping

from components.arguments.errors import InputError


def different(where: str, values: Mapping[str, int]) -> None:
    """Refuse two arguments, such as ports, that have the same value."""
    taken: dict[int, str] = {}
    for argument, value in values.items():
        if value in taken:
            raise InputError(where, argument, value, f"must differ from {taken[value]}")
        taken[value] = argument


def unique(where: str, argument: str, values: Collection[str]) -> None:
    """Refuse a name that stands twice."""
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise InputError(where, argument, value, "must be unique, it stands twice")
        seen.add(value)
