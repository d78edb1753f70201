"""Refuses unsupported calls of a plugin with a message that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc

Servicer = TypeVar("Servicer", bound=type)


def refuse_unsupported(protocol: type, plugin: str) -> Callable[[Servicer], Servicer]:
    """Decorate a servicer: methods of its protocol that it does not implement are refused by name.

    The code is UNIMPLEMENTED, after which the engine continues without optional methods.

    :param protocol: the servicer class that gRPC generates
    :param plugin: name of the plugin, such as "the project's language host"
    """

    def decorate(servicer: Servicer) -> Servicer:
        for name, method in vars(protocol).items():
            if not name.startswith("_") and getattr(servicer, name) is method:
                setattr(servicer, name, _refusal(name, plugin))
        return servicer

    return decorate


def _refusal(name: str, plugin: str) -> Callable[[Any, Any, Any], NoReturn]:
    def refuse(_: Any, __: Any, context: Any) -> NoReturn:
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"{plugin} does not support {name}; Pulumi's own does, on a machine that reaches Pulumi's "
            "downloads (DDS_MODE=ordinary)",
        )
        raise AssertionError("unreachable: abort raises")

    return refuse
