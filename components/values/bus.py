"""What an event bus tells those who publish and subscribe."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pulumi

from components.arguments import check_fields, matching
from components.arguments.addresses import Endpoint, Port
from components.arguments.declared import Deferrable
from components.arguments.names import DnsLabel, Label, Selector

_WORD = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"

Topic = Annotated[
    str,
    matching(
        rf"{_WORD}(\.{_WORD})*",
        "a topic: lower-case letters, digits and dashes, with dots between words, such as "
        "login.requested",
        most=128,
        odd=("Login", "a..b", ".a", "a.", "a.-b", "a_b", "a.>", "a.*", "a b", "a\n", "$sys"),
    ),
]
"""What events are about; a bus knows it as part of a subject."""


@dataclass(frozen=True)
class BusTopology:
    """Where a bus is and how it is reached; for pods of the same namespace."""

    GIVEN_BY: ClassVar[str] = "bus.topology"

    name: DnsLabel
    """The bus's name."""
    server: Endpoint
    """``host:port`` of its server."""
    port: Port
    """The port at the server's pod."""
    username: Annotated[
        str,
        matching(
            r"[A-Za-z0-9][-._A-Za-z0-9]*",
            "letters, digits, dots, dashes and underscores, such as client",
            most=64,
            odd=("-a", "a:b", "a b", "a@b", "a\n"),
        ),
    ]
    """What clients log in as."""
    password: Annotated[pulumi.Output[str], Deferrable(secret=True)]
    """Their password, a secret. It is known once the streams are there: what mounts it starts
    later."""
    client_label: Label
    """Pods with this label are let in by the server's NetworkPolicy."""
    delivery_label: Label
    """Label of the pods that deliver events. What is to receive some names it as its client."""
    server_labels: Selector
    """Labels that select the server's pod."""

    def __post_init__(self) -> None:
        check_fields(f'BusTopology "{self.name}"', self)
