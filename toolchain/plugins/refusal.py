"""Calls that a plugin does not have: refused in one sentence that says which plugin, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc

Servicer = TypeVar("Servicer", bound=type)


def refusing_the_rest(protocol: type, whose: str) -> Callable[[Servicer], Servicer]:
    """Decorate a servicer: methods of its protocol that it does not have are refused by name.

    The code is UNIMPLEMENTED, by which the engine knows what it may go on without.

    :param protocol: the class that gRPC made of the protocol
    :param whose: what the plugin is called, such as "the project's language host"
    """

    def decorate(servicer: Servicer) -> Servicer:
        for name, method in vars(protocol).items():
            if not name.startswith("_") and getattr(servicer, name) is method:
                setattr(servicer, name, _refusal(name, whose))
        return servicer

    return decorate


def _refusal(name: str, whose: str) -> Callable[[Any, Any, Any], NoReturn]:
    def refuse(_: Any, __: Any, context: Any) -> NoReturn:
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"{whose} has no {name}; Pulumi's own has, on a machine that reaches Pulumi's downloads "
            "(DDS_MODE=ordinary)",
        )
        raise AssertionError("unreachable: abort raises")

    return refuse
