"""Values that are known only later: Outputs and awaitables."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import pulumi

from dds_patterns.arguments.place import Place

T = TypeVar("T")


def is_deferred(value: object) -> bool:
    """Whether the value is known only later (an Output or an awaitable)."""
    return isinstance(value, pulumi.Output) or inspect.isawaitable(value)


def checked(value: pulumi.Input[T], check: Callable[[T], T]) -> pulumi.Input[T]:
    """Apply ``check`` to a plain value now, to an Output when it resolves."""
    if is_deferred(value):
        return pulumi.Output.from_input(value).apply(check)
    return check(cast(T, value))


def public(place: Place, value: pulumi.Output[Any]) -> pulumi.Output[Any]:
    """Refuse a secret where it would be readable: environment, arguments, labels, ConfigMaps.

    Whether an Output is a secret is known only when it resolves, so the refusal fails the resource
    that would have carried it.
    """

    async def secret() -> bool:
        if await value.is_secret():
            place.hidden().refuse(
                None, "must not be a secret, others can read it there: give it in secret_files"
            )
        return False

    # Both go into one Output, so that a preview in which the value is unknown refuses as well.
    return pulumi.Output.all(value, secret()).apply(lambda pair: pair[0])
