"""Checks across arguments."""

from collections.abc import Collection, Mapping
from typing import Any

from dds_patterns.arguments.errors import InputError


def different(where: str, args: Mapping[str, Any], *arguments: str) -> None:
    """Refuse two of the arguments, such as ports, that have the same value."""
    taken: dict[Any, str] = {}
    for argument in arguments:
        if argument in args:
            value = args[argument]
            if value in taken:
                raise InputError(where, argument, value, f"must differ from {taken[value]}")
            taken[value] = argument


def left_out(where: str, given: Mapping[str, Any], arguments: Collection[str], why: str) -> None:
    """Refuse the arguments, as the user wrote them, where another one leaves them no effect."""
    for argument in arguments:
        if given.get(argument) is not None:
            raise InputError(where, argument, given[argument], f"must be left out: {why}")
