"""Error messages with the names of arguments as they are on the wire."""

import functools
import re
from typing import Any

import pulumi

from dds_patterns.arguments.declared import arguments_of
from dds_patterns.arguments.errors import InputError, UnknownArgumentError
from dds_patterns.wire.components import components, declaration
from dds_patterns.wire.names import camel

_WORD = re.compile(r"\b[a-z]+(_[a-z0-9]+)+\b")


def in_camel_case(error: pulumi.RunError) -> str:
    """A message with the names of arguments as they are on the wire."""
    if not isinstance(error, InputError):
        return str(error)
    parent, dot, last = error.argument.rpartition(".")
    if not isinstance(error, UnknownArgumentError):
        last = _spelled(last)
    argument = f"{_spelled(parent)}{dot}{last}"
    return str(error.__class__(error.where, argument, error.value, _spelled(error.expected)))


def _spelled(text: str) -> str:
    names = _argument_names()
    return _WORD.sub(lambda word: camel(word[0]) if word[0] in names else word[0], text)


@functools.cache
def _argument_names() -> frozenset[str]:
    kinds = [declaration(kind) for kind in components().values()]
    found: set[str] = set()
    seen: set[Any] = set()
    while kinds:
        kind = kinds.pop()
        if kind in seen:
            continue
        seen.add(kind)
        for key, declared in arguments_of(kind).items():
            found.add(key)
            if declared.innermost.has_keys:
                kinds.append(declared.innermost.type)
    return frozenset(found)
