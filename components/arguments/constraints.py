"""Constraints: what a value of the right type must be beyond that.

A constraint stands in the declaration of an argument, ``Annotated[int, between(1, 64)]``. It carries values
that it refuses, with which the tests try every argument that has it.
"""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from components.arguments.place import Place


@dataclass(frozen=True, eq=False)
class Constraint:
    """A condition of a value whose type is right already."""

    says: str
    """The condition as a clause, ``from 1 to 64``, for messages and the tables in the docs."""
    holds: Callable[[Any], bool] = field(repr=False)
    """Whether a value keeps it."""
    odd: tuple[Any, ...] = ()
    """Values of the right type that are refused."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """The condition in the words of JSON Schema, as far as it can be said there."""

    def check(self, place: Place, value: Any) -> Any:
        """The value, or InputError."""
        if not self.holds(value):
            place.refuse(value, self.expected(value))
        return value

    def expected(self, value: Any) -> str:  # noqa: ARG002 (others say more, knowing the value)
        """What would be right."""
        return f"must be {self.says}"


class Address(Constraint):
    """A place that something is reached at; one with credentials is refused without being shown."""

    def check(self, place: Place, value: Any) -> Any:
        """The address, or InputError."""
        if self.has_credentials(value) and not self.holds(value):
            place.hidden().refuse(
                value,
                "must have no user and password in it: an address is no secret, others can read it",
            )
        return super().check(place, value)

    def has_credentials(self, value: str) -> bool:
        """Whether a user, and perhaps a password, may stand in what is no address."""
        return "@" in value


def between(least: float | None, most: float | None = None) -> Constraint:
    """A number within inclusive bounds; None is no bound."""
    if most is None:
        says = f"at least {least}"
    elif least is None:
        says = f"at most {most}"
    else:
        says = f"from {least} to {most}"
    odd: list[float] = [] if least is None else [least - 1, -(10**12)]
    odd += [] if most is None else [most + 1, 10**12]
    bounds = {"minimum": least, "maximum": most}
    return Constraint(
        says,
        lambda number: (least is None or number >= least) and (most is None or number <= most),
        tuple(odd),
        {key: bound for key, bound in bounds.items() if bound is not None},
    )


def one_of(*words: str) -> Constraint:
    """One of a few words."""
    # A word without letters is its own other case.
    odd = ("", "nonsense", words[0].swapcase(), f"{words[0]}\n")
    return Constraint(
        f"one of {', '.join(words)}",
        lambda word: word in words,
        tuple(word for word in odd if word not in words),
        {"enum": list(words)},
    )


@dataclass(frozen=True, eq=False)
class Matching(Constraint):
    """A text of a certain form, by a regular expression for the whole of it, and a length."""

    most: int | None = None
    """Most characters."""

    def expected(self, value: Any) -> str:
        """What would be right, with the length if that is what is wrong."""
        if self.most is not None and len(value) > self.most:
            return f"must have at most {self.most} characters, it has {len(value)}"
        return super().expected(value)


def matching(
    pattern: str, says: str, *, most: int | None = None, odd: Collection[str] = ()
) -> Matching:
    """A text that a regular expression matches as a whole.

    :param says: ``a DNS label such as web``
    :param most: most characters
    :param odd: texts that are refused, for the tests
    """
    compiled = re.compile(pattern)
    too_long = () if most is None else ("a" * (most + 1),)

    def holds(text: str) -> bool:
        return (most is None or len(text) <= most) and compiled.fullmatch(text) is not None

    tried = [*odd, *(text for text in ("", "a b\n", "\0") if not holds(text)), *too_long]
    schema: dict[str, Any] = {"pattern": f"^({pattern})$"}
    if most is not None:
        schema["maxLength"] = most
    return Matching(says, holds, tuple(tried), schema, most)


def password(least: int) -> Constraint:
    """A password that no program's configuration, command line or SQL reads differently.

    :param least: fewest characters
    """
    return matching(
        rf"[-._~A-Za-z0-9]{{{least},128}}",
        f"from {least} to 128 characters of A to Z, a to z, 0 to 9 and -._~",
        odd=[
            *("a" * (least - 1), "a" * 129),
            *("a" * least + end for end in ("\n", " ", "#", "\\", "ä", '"b', "'--")),
        ],
    )


class _NotEmpty(Constraint):
    def expected(self, value: Any) -> str:  # noqa: ARG002 (there is nothing to say of it)
        """What would be right."""
        return "must not be empty"


NOT_EMPTY = _NotEmpty("not empty", bool, ("", (), {}), {"minLength": 1})
"""For a text, a list or a mapping."""


def some(most: int, what: str) -> Constraint:
    """A list or mapping that is not empty and has so many entries at most.

    :param what: they are, in the plural
    """
    return Constraint(f"from 1 to {most} {what}", lambda given: 1 <= len(given) <= most, ((), {}))


class Distinct(Constraint):
    """A list without repetition."""

    def expected(self, value: Any) -> str:
        """Names what stands twice."""
        twice = next(item for position, item in enumerate(value) if item in value[:position])
        return f"must be unique, {twice!r} stands twice"


DISTINCT = Distinct(
    "without repetition",
    lambda items: all(item not in items[:position] for position, item in enumerate(items)),
)


def nearest(word: str, known: Collection[str]) -> str:
    """Clause that lists the known names, with the one most like ``word`` first."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}known are {', '.join(sorted(known)) or 'none'}"


def plain_bytes(texts: Mapping[str, Any]) -> int:
    """Size in UTF-8 of the keys and values of a mapping, as far as they are known."""
    return sum(
        len(part.encode())
        for key, text in texts.items()
        for part in (key, text)
        if isinstance(part, str)
    )
