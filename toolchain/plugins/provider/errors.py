"""Errors of a provider for users. Any other exception is a bug of the plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ProviderError(Exception):
    """An operation failed; only the message is printed."""


class CancelledError(ProviderError):
    """The user cancelled the update during the operation."""


class IncompleteError(ProviderError):
    """The object exists but its initialization failed, so the engine must record it.

    :param identity: the object's id
    :param properties: its known outputs
    :param inputs: its inputs
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
