"""The interface of a resource type."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from toolchain.plugins.provider.errors import ProviderError

if TYPE_CHECKING:
    from toolchain.plugins.docker.engine import Operation
    from toolchain.plugins.docker.schema import Change, Failure, Field
    from toolchain.plugins.provider.provider import Properties


class PartlyDoneError(ProviderError):
    """The object exists but its initialization failed; the engine records it as such."""

    def __init__(self, identity: str, state: Properties, reason: str) -> None:
        super().__init__(reason)
        self.identity = identity
        self.state = state
        self.reason = reason


def _nothing_more(_inputs: Properties) -> list[Failure]:
    return []


@dataclasses.dataclass(frozen=True)
class ResourceType:
    """A type's properties and its operations, all on plain dictionaries.

    :param auto_named: whether ``name`` defaults to one derived from the resource's name
    :param complete: fills in more inputs and returns failures of several properties together
    :param create: creates the object; returns its id and state, or raises PartlyDoneError
    :param read: returns the object's current id and state, or None if it does not exist
    :param update: updates the object and returns its state, or raises PartlyDoneError
    :param delete: deletes the object and waits until it is gone
    :param changes: replaces the usual comparison of state and inputs
    :param delete_first: whether a replacement deletes the old object first
    :param secret_outputs: names of outputs that are secrets
    :param meta: the official plugin's own entry in the state, with the version of its schema,
        without which it would migrate the state from an old version
    """

    type_name: str
    fields: Mapping[str, Field]
    create: Callable[[Operation, Properties], tuple[str, Properties]]
    read: Callable[[Operation, str, Properties], tuple[str, Properties] | None]
    update: Callable[[Operation, str, Properties, Properties], Properties]
    delete: Callable[[Operation, str, Properties], None]
    auto_named: bool = True
    delete_first: bool = False
    complete: Callable[[Properties], list[Failure]] = _nothing_more
    changes: Callable[[Properties, Properties], list[Change]] | None = None
    secret_outputs: tuple[str, ...] = ()
    meta: str = ""
