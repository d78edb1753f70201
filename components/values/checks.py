"""Checks of single arguments: each returns its value or raises InputError.

A plain value is checked at once. An Output passes through and is checked when it resolves, so that
a bad one fails the resource that uses it instead of slipping by.
"""

import difflib
import inspect
import ipaddress
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar, cast, overload

import pulumi

from components.arguments.errors import InputError, MissingArgumentError, UnknownArgumentError

T = TypeVar("T")

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_LABEL_LIMIT = 63
_HIGHEST_PORT = 65535
_QUANTITY = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>m|[kMGTPE]|[KMGTPE]i)?")
_UNITS = {
    None: 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_IMAGE = re.compile(
    r"(?P<name>[a-z0-9][a-zA-Z0-9._:/-]*?)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


def is_deferred(value: object) -> bool:
    """Whether the value is known only later (an Output or an awaitable)."""
    return isinstance(value, pulumi.Output) or inspect.isawaitable(value)


def checked(value: pulumi.Input[T], check: Callable[[T], T]) -> pulumi.Input[T]:
    """Apply ``check`` now to a plain value, or when it resolves to an Output."""
    if is_deferred(value):
        return pulumi.Output.from_input(value).apply(check)
    return check(cast(T, value))


def plain(where: str, argument: str, value: pulumi.Input[T], reason: str) -> T:
    """Refuse an Output where the value decides which resources there are.

    :param reason: why it must be known, as a clause: ``it decides how many shards there are``
    """
    if is_deferred(value):
        raise InputError(
            where, argument, "<known only later>", f"must be a plain value, because {reason}"
        )
    return cast(T, value)


def known_arguments(where: str, args_type: type, args: Mapping[str, Any]) -> None:
    """Refuse keys that ``args_type`` (a TypedDict) does not have, and missing required ones."""
    if not _is_mapping(args):
        raise InputError(where, "args", args, f"must be a mapping as {args_type.__name__} says")
    required: frozenset[str] = getattr(args_type, "__required_keys__")  # noqa: B009
    optional: frozenset[str] = getattr(args_type, "__optional_keys__")  # noqa: B009
    known = sorted(required | optional)
    for key in args:
        if key not in known:
            raise UnknownArgumentError(where, str(key), nearest(str(key), known))
    for key in sorted(required):
        if args.get(key) is None:
            raise MissingArgumentError(where, key, f"required are {', '.join(sorted(required))}")


def nearest(word: str, known: Collection[str]) -> str:
    """Clause that lists the known names, with the one most like ``word`` first."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}known are {', '.join(sorted(known)) or 'none'}"


@overload
def integer(
    where: str, argument: str, value: int, *, minimum: int | None = ..., maximum: int | None = ...
) -> int: ...
@overload
def integer(
    where: str,
    argument: str,
    value: pulumi.Input[int],
    *,
    minimum: int | None = ...,
    maximum: int | None = ...,
) -> pulumi.Input[int]: ...
def integer(
    where: str,
    argument: str,
    value: pulumi.Input[int],
    *,
    minimum: int | None = None,
    maximum: int | None = None,
) -> pulumi.Input[int]:
    """A whole number within inclusive bounds. Booleans and strings are refused."""

    def check(number: Any) -> int:
        # Numbers that cross a process boundary in Pulumi arrive as floats.
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if isinstance(number, bool) or not isinstance(number, int):
            raise InputError(where, argument, number, "must be a whole number")
        _within(where, argument, number, minimum, maximum)
        return number

    return checked(value, check)


def whole(
    where: str,
    args: Mapping[str, Any],
    argument: str,
    default: int,
    bounds: tuple[int, int],
    plain_because: str = "",
) -> int:
    """One of ``args``, or ``default``: a whole number within inclusive bounds.

    :param argument: its key, in messages with those above it: ``breaker.failures``
    :param plain_because: why it must be known now; with it a value that is not yet is refused
    """
    value: int = args.get(argument.rpartition(".")[2], default)
    if plain_because:
        value = plain(where, argument, value, plain_because)
    return integer(where, argument, value, minimum=bounds[0], maximum=bounds[1])


def different(where: str, values: Mapping[str, int]) -> None:
    """Refuse two arguments, such as ports, that have the same value."""
    taken: dict[int, str] = {}
    for argument, value in values.items():
        if value in taken:
            raise InputError(where, argument, value, f"must differ from {taken[value]}")
        taken[value] = argument


def port(where: str, argument: str, value: int) -> int:
    """A port number."""
    return integer(where, argument, value, minimum=1, maximum=_HIGHEST_PORT)


def network(where: str, argument: str, value: str) -> str:
    """A network with its mask, ``203.0.113.0/24``."""
    expected = "must be a network with its mask, for example 203.0.113.0/24"
    # Without a mask the standard library reads a single address.
    if not _is_text(value) or "/" not in value:
        raise InputError(where, argument, value, expected)
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise InputError(where, argument, value, expected) from None
    return value


@overload
def number(
    where: str,
    argument: str,
    value: float,
    *,
    minimum: float | None = ...,
    maximum: float | None = ...,
) -> float: ...
@overload
def number(
    where: str,
    argument: str,
    value: pulumi.Input[float],
    *,
    minimum: float | None = ...,
    maximum: float | None = ...,
) -> pulumi.Input[float]: ...
def number(
    where: str,
    argument: str,
    value: pulumi.Input[float],
    *,
    minimum: float | None = None,
    maximum: float | None = None,
) -> pulumi.Input[float]:
    """A finite number within inclusive bounds."""

    def check(received: Any) -> float:
        if isinstance(received, bool) or not isinstance(received, int | float):
            raise InputError(where, argument, received, "must be a number")
        if not math.isfinite(received):
            raise InputError(where, argument, received, "must be a finite number")
        _within(where, argument, received, minimum, maximum)
        return received

    return checked(value, check)


@overload
def percentage(where: str, argument: str, value: float) -> float: ...
@overload
def percentage(where: str, argument: str, value: pulumi.Input[float]) -> pulumi.Input[float]: ...
def percentage(where: str, argument: str, value: pulumi.Input[float]) -> pulumi.Input[float]:
    """A number from 0 to 100."""
    return number(where, argument, value, minimum=0, maximum=100)


@overload
def one_of(where: str, argument: str, value: str, choices: Collection[str]) -> str: ...
@overload
def one_of(
    where: str, argument: str, value: pulumi.Input[str], choices: Collection[str]
) -> pulumi.Input[str]: ...
def one_of(
    where: str, argument: str, value: pulumi.Input[str], choices: Collection[str]
) -> pulumi.Input[str]:
    """One of a few words."""

    def check(word: str) -> str:
        if word not in choices:
            raise InputError(where, argument, word, f"must be one of {', '.join(choices)}")
        return word

    return checked(value, check)


def dns_label(where: str, argument: str, value: str, reserve: int = 0) -> str:
    """A name for objects and hosts: lower-case letters, digits and dashes (RFC 1123).

    :param reserve: characters that names derived from this one add, of the 63 a label may have
    """
    if not _is_text(value) or not _DNS_LABEL.fullmatch(value):
        raise InputError(
            where,
            argument,
            value,
            "must be a DNS label: lower-case letters, digits and dashes, no dash at either end",
        )
    longest = _DNS_LABEL_LIMIT - reserve
    if len(value) > longest:
        raise InputError(
            where,
            argument,
            value,
            f"must have at most {longest} characters, it has {len(value)}: names derived from it "
            f"add {reserve} to the {_DNS_LABEL_LIMIT} that a DNS label may have",
        )
    return value


@overload
def image_reference(where: str, argument: str, value: str) -> str: ...
@overload
def image_reference(where: str, argument: str, value: pulumi.Input[str]) -> pulumi.Input[str]: ...
def image_reference(where: str, argument: str, value: pulumi.Input[str]) -> pulumi.Input[str]:
    """An image reference with a tag other than ``latest``, or better a digest."""

    def check(reference: str) -> str:
        parsed = _IMAGE.fullmatch(reference) if _is_text(reference) else None
        if parsed is None:
            raise InputError(where, argument, reference, "must be an image reference, name:tag")
        # The last colon may belong to a registry's port: localhost:5000/redis has no tag.
        tag = parsed["tag"]
        if parsed["digest"] is None and (tag is None or tag == "latest"):
            raise InputError(
                where,
                argument,
                reference,
                "must have a tag other than latest or a digest, for example redis:7.0.15",
            )
        return reference

    return checked(value, check)


@overload
def quantity(where: str, argument: str, value: str) -> str: ...
@overload
def quantity(where: str, argument: str, value: pulumi.Input[str]) -> pulumi.Input[str]: ...
def quantity(where: str, argument: str, value: pulumi.Input[str]) -> pulumi.Input[str]:
    """A positive Kubernetes quantity such as ``250m`` or ``64Mi``."""

    def check(text: str) -> str:
        if not _is_text(text) or not _QUANTITY.fullmatch(text) or amount(text) <= 0:
            raise InputError(where, argument, text, "must be a quantity such as 250m or 64Mi")
        return text

    return checked(value, check)


def amount(quantity_text: str) -> float:
    """The number that a well-formed Kubernetes quantity stands for."""
    parsed = _QUANTITY.fullmatch(quantity_text)
    if parsed is None:
        raise ValueError(f"not a quantity: {quantity_text!r}")
    return float(parsed["number"]) * _UNITS[parsed["unit"]]


def absolute_path(where: str, argument: str, value: str) -> str:
    """A normalised absolute path of a file or folder inside a container."""
    if (
        not _is_text(value)
        or not value.startswith("/")
        or value == "/"
        or "//" in value
        or value.endswith("/")
        or any(part in (".", "..") for part in value.split("/"))
    ):
        raise InputError(where, argument, value, "must be an absolute path such as /etc/app/a.conf")
    return value


def public(where: str, argument: str, value: pulumi.Input[T]) -> pulumi.Input[T]:
    """Refuse a secret where it would be readable: environment, arguments, ConfigMaps.

    Whether an Output is a secret is known only when it resolves, so the refusal fails the resource
    that would have carried it.
    """
    if not isinstance(value, pulumi.Output):
        return value

    async def secret() -> bool:
        if await value.is_secret():
            raise InputError(
                where,
                argument,
                "<secret>",
                "must not be a secret, others can read it there: give it in secret_files",
            )
        return False

    # Both go into one Output, so that a preview in which the value is unknown refuses as well.
    return pulumi.Output.all(value, secret()).apply(lambda pair: cast(T, pair[0]))


def unique(where: str, argument: str, values: Collection[str]) -> None:
    """Refuse a name that stands twice."""
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise InputError(where, argument, value, "must be unique, it stands twice")
        seen.add(value)


def _is_text(value: object) -> bool:
    # The annotations promise a string; who calls without a type checker may break the promise.
    return isinstance(value, str)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _within(
    where: str, argument: str, value: float, minimum: float | None, maximum: float | None
) -> None:
    if minimum is not None and maximum is not None and not minimum <= value <= maximum:
        raise InputError(where, argument, value, f"must be from {minimum} to {maximum}")
    if minimum is not None and value < minimum:
        raise InputError(where, argument, value, f"must be at least {minimum}")
    if maximum is not None and value > maximum:
        raise InputError(where, argument, value, f"must be at most {maximum}")
