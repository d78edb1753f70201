"""The place of a value among the arguments, for error messages."""

from typing import Any, NamedTuple, NoReturn

from dds_patterns.arguments.errors import InputError, MissingArgumentError, UnknownArgumentError

HIDDEN = "<secret>"
"""Placeholder for a secret value in messages."""
DEFERRED = "<known only later>"
"""Placeholder for an Output in messages."""


class Place(NamedTuple):
    """One argument of one component, or a part of it: ``ports[0].name``."""

    where: str
    """The component and its name, ``Application "web"``."""
    argument: str = ""
    """Path of the argument as the user wrote it; empty for all arguments together."""
    secret: bool = False
    """Whether messages hide its value."""

    def key(self, key: str) -> "Place":
        """An argument, or a key of one that has known keys: ``storage.size``."""
        return Place(self.where, f"{self.argument}.{key}" if self.argument else key, self.secret)

    def entry(self, key: object) -> "Place":
        """An entry of a list or mapping: ``ports[0]``, ``env[MODE]``."""
        # A message stays one line, whatever the name of an entry.
        shown = key if str(key).isprintable() else repr(key)
        return Place(self.where, f"{self.argument}[{shown}]", self.secret)

    def a_key(self) -> "Place":
        """A key of a mapping, which may be invalid: ``labels (a key)``."""
        return Place(self.where, f"{self.argument} (a key)", self.secret)

    def hidden(self) -> "Place":
        """The same place, with a value that is a secret."""
        return Place(self.where, self.argument, secret=True)

    def refuse(self, value: Any, expected: str) -> NoReturn:
        """Raise the error for a value.

        :param expected: what is expected, as a clause: ``must be at least 1``
        """
        shown = _AsItIs(HIDDEN) if self.secret else value
        raise InputError(self.where, self.argument or "args", shown, expected)

    def refuse_deferred(self, expected: str) -> NoReturn:
        """Raise the error for an Output where there can be none."""
        self.refuse(_AsItIs(DEFERRED), expected)

    def unknown(self, key: str, expected: str) -> NoReturn:
        """Raise the error for a key that is not known here."""
        raise UnknownArgumentError(self.where, self.key(key).argument, None, expected)

    def missing(self, key: str, required: list[str]) -> NoReturn:
        """Raise the error for a required key that was left out."""
        expected = f"required are {', '.join(sorted(required))}"
        raise MissingArgumentError(self.where, self.key(key).argument, None, expected)


class _AsItIs(str):
    """Shown in a message as it is, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
