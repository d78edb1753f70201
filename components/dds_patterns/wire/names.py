"""Names of arguments on the wire."""

import functools
import re
from collections.abc import Callable

_PART = re.compile(r"_([a-z0-9])")


@functools.cache
def camel(name: str) -> str:
    """A name in camel case: ``service_port`` as ``servicePort``."""
    return _PART.sub(lambda part: part[1].upper(), name)


def spelled(text: str, is_argument: Callable[[str], bool]) -> str:
    """A message with the names of arguments as they are on the wire."""

    def spell(word: "re.Match[str]") -> str:
        return camel(word[0]) if is_argument(word[0]) else word[0]

    return re.sub(r"\b[a-z]+(_[a-z0-9]+)+\b", spell, text)
