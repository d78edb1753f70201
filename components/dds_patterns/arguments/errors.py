"""The error for invalid input."""

from typing import ClassVar

import pulumi

_LONGEST = 500


class InputError(pulumi.RunError):
    """An argument was refused before any resource was registered.

    Pulumi prints a RunError without a traceback, so the message is all that a user sees: it names
    the component, the argument, the value received and what is expected.
    """

    FOUND: ClassVar[str | None] = None
    """What is wrong with the argument, where that is not its value."""

    def __init__(self, where: str, argument: str, value: object, expected: str) -> None:
        """Describe what was refused.

        :param where: the component and its name, for example ``ShardedRedis "cache"``
        :param argument: the argument's name as the user typed it, ``ports[0].port``
        :param value: the value received; never pass a secret
        :param expected: what is expected, as a clause: ``must be at least 1``
        """
        self.where = where
        self.argument = argument
        self.value = value
        self.expected = expected
        super().__init__(f"{where}: {argument} is {self.FOUND or _shown(value)}; {expected}")


def _shown(value: object) -> str:
    """The value as Python writes it; of a very long one the beginning."""
    text = repr(value)
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}... ({len(text)} characters)"


class UnknownArgumentError(InputError):
    """An argument that the component does not have, most often a misspelled one."""

    FOUND = "not an argument"


class MissingArgumentError(InputError):
    """A required argument was left out."""

    FOUND = "missing"
