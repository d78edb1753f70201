"""What a provider raises for the user to read. Anything else is a fault of the plugin itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ProviderError(Exception):
    """An operation that failed; the message is all the user sees."""


class CancelledError(ProviderError):
    """The user cancelled the update while the operation was under way."""


class IncompleteError(ProviderError):
    """The object exists but is not what was asked for, so the engine has to remember it.

    :param identity: the object's id
    :param properties: its outputs as far as they are known
    :param inputs: the inputs it was made from
    """

    def __init__(
        self,
        message: str,
        *,
        identity: str,
        properties: Mapping[str, Any],
        inputs: Mapping[str, Any],
    ) -> None:
        super().__init__(message)
        self.identity = identity
        self.properties = properties
        self.inputs = inputs
