"""Constraints: conditions on a value beyond its type.

A constraint stands in the declaration of an argument, ``Annotated[int, between(1, 64)]``. It has
invalid values, which the generated tests try on every argument that has it.
"""

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dds_patterns.arguments.place import Place


@dataclass(frozen=True, eq=False)
class Constraint:
    """A condition on a value of the right type."""

    says: str
    """The condition as a clause, ``from 1 to 64``, for messages and the tables in the docs."""
    holds: Callable[[Any], bool] = field(repr=False)
    """Whether a value satisfies it."""
    odd: tuple[Any, ...] = ()
    """Values of the right type that are refused."""
    wanted: Callable[[Any], str] | None = field(default=None, repr=False)
    """What is expected in place of a refused value; by default what it ``says``."""

    def check(self, place: Place, value: Any) -> Any:
        """The value, or InputError."""
        if not self.holds(value):
            place.refuse(value, self.wanted(value) if self.wanted else f"must be {self.says}")
        return value


class Address(Constraint):
    """An address of a server; one with credentials is refused without being shown."""

    def check(self, place: Place, value: Any) -> Any:
        """The address, or InputError."""
        if self.has_credentials(value) and not self.holds(value):
            place.hidden().refuse(
                value,
                "must have no user and password in it: an address is no secret, others can read it",
            )
        return super().check(place, value)

    def has_credentials(self, value: str) -> bool:
        """Whether an invalid address may contain a user and password."""
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
    return Constraint(
        says,
        lambda number: (least is None or number >= least) and (most is None or number <= most),
        tuple(odd),
    )


def one_of(*words: str) -> Constraint:
    """One of a few words."""
    # A word without letters is its own other case.
    odd = ("", "nonsense", words[0].swapcase(), f"{words[0]}\n")
    return Constraint(
        f"one of {', '.join(words)}",
        lambda word: word in words,
        tuple(word for word in odd if word not in words),
    )


def matching(
    pattern: str, says: str, *, most: int | None = None, odd: Collection[str] = ()
) -> Constraint:
    """A text that a regular expression matches as a whole.

    :param says: ``a DNS label such as web``
    :param most: most characters
    :param odd: texts that are refused, for the tests
    """
    compiled = re.compile(pattern)
    too_long = () if most is None else ("a" * (most + 1),)

    def holds(text: str) -> bool:
        return (most is None or len(text) <= most) and compiled.fullmatch(text) is not None

    def wanted(text: str) -> str:
        if most is not None and len(text) > most:
            return f"must have at most {most} characters, it has {len(text)}"
        return f"must be {says}"

    tried = [*odd, *(text for text in ("", "a b\n", "\0") if not holds(text)), *too_long]
    return Constraint(says, holds, tuple(tried), wanted)


def password(least: int) -> Constraint:
    """A password that needs no quoting in configurations, command lines and SQL.

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


NOT_EMPTY = Constraint("not empty", bool, ("", (), {}), lambda _: "must not be empty")
"""For a text, a list or a mapping."""


def some(most: int, what: str) -> Constraint:
    """A non-empty list or mapping with at most so many entries.

    :param what: the entries, in the plural
    """
    return Constraint(f"from 1 to {most} {what}", lambda given: 1 <= len(given) <= most, ((), {}))


def _repeated(items: Sequence[Any]) -> list[Any]:
    return [item for position, item in enumerate(items) if item in items[:position]]


DISTINCT = Constraint(
    "without repetition",
    lambda items: not _repeated(items),
    wanted=lambda items: f"must be unique, {_repeated(items)[0]!r} is listed twice",
)
"""For a list."""


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
