"""Names of arguments on the wire."""

import functools
import re

_PART = re.compile(r"_([a-z0-9])")


@functools.cache
def camel(name: str) -> str:
    """A name in camel case: ``service_port`` as ``servicePort``."""
    return _PART.sub(lambda part: part[1].upper(), name)
