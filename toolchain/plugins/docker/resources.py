"""What the plugin asks of a resource type."""

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
    """The object exists but is not what was asked for; the engine is to remember it so."""

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

    :param auto_named: whether ``name`` is made from the resource's name where none is given
    :param complete: fills inputs in further and says what is wrong with them as a whole
    :param create: makes the object; its id and state, or raises PartlyDoneError
    :param read: the object's state now, or None where it is gone; inputs as they would give it
    :param update: brings the object to the inputs and gives its state, or raises PartlyDoneError
    :param delete: takes the object away and waits until it is gone
    :param changes: replaces the usual comparison of state and inputs
    :param delete_first: whether an old object has to go before its replacement comes
    :param secret_outputs: names of outputs that are secrets
    :param meta: what the official plugin notes in the state for itself, most of all the version
        of its schema, without which it would convert the state from an old one
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
