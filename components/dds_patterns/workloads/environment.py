"""Environment variables of a container."""

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(r"\$\(([^)]+)\)")


def in_order(env: Mapping[str, Any]) -> list[str]:
    """Names of the variables, each after those that its value refers to as ``$(NAME)``.

    Kubernetes expands only variables that are defined before. What an Output refers to is not known;
    otherwise the order is that of the names.
    """
    found: list[str] = []

    def add(name: str, referring: tuple[str, ...]) -> None:
        if name not in env or name in found or name in referring:
            return
        if isinstance(env[name], str):
            for reference in _REFERENCE.findall(env[name]):
                add(reference, (*referring, name))
        found.append(name)

    for name in sorted(env):
        add(name, ())
    return found
