"""What an event bus tells those who publish and subscribe."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from components.arguments.errors import InputError

_TOPIC = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_TOPIC_LIMIT = 128


@dataclass(frozen=True)
class BusTopology:
    """Where a bus is and how it is reached; for pods of the same namespace."""

    name: str
    """The bus's name."""
    server: str
    """``host:port`` of its server."""
    port: int
    """The port at the server's pod."""
    username: str
    """Who clients log in as."""
    password: pulumi.Output[str]
    """Their password, a secret. It is known once the streams are there: what mounts it starts
    later."""
    client_label: tuple[str, str]
    """Pods with this label are let in by the server's NetworkPolicy."""
    delivery_label: tuple[str, str]
    """Label of the pods that deliver events. What is to receive some names it as its client."""
    server_labels: Mapping[str, str]
    """Labels that select the server's pod."""


def topic(where: str, argument: str, value: str) -> str:
    """A topic: DNS labels with dots between them, ``login.requested``."""
    if not _is_text(value) or not _TOPIC.fullmatch(value) or len(value) > _TOPIC_LIMIT:
        raise InputError(
            where, argument, value,
            f"must be a topic of at most {_TOPIC_LIMIT} characters: lower-case letters, digits and "
            "dashes, with dots between words, such as login.requested",
        )  # fmt: skip
    return value


def _is_text(value: object) -> bool:
    return isinstance(value, str)
