"""What an etcd cluster tells its clients."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pulumi

from components.arguments import NOT_EMPTY, check_fields, matching
from components.arguments.addresses import Port, is_endpoint, url
from components.arguments.constraints import Constraint
from components.arguments.declared import Deferrable
from components.arguments.names import DnsLabel, Label, Selector

_SCHEME = "https://"
MemberUrl = Annotated[
    str,
    # First, since it keeps credentials out of messages.
    url("https"),
    Constraint(
        "https://host:port and no path",
        lambda text: is_endpoint(text.removeprefix(_SCHEME)),
        ("https://etcd", "https://etcd:2379/", "https://etcd:2379/$(HOME)", "https://etcd:2379?a"),
    ),
]
"""Where one member is reached."""


@dataclass(frozen=True)
class EtcdTopology:
    """Where the members are and how they are reached; for pods of the same namespace."""

    GIVEN_BY: ClassVar[str] = "cluster.topology"

    name: DnsLabel
    """The cluster's name."""
    endpoints: Annotated[tuple[MemberUrl, ...], NOT_EMPTY]
    """URL of each member, by a name that stays. A client tries one after the other."""
    authority: pulumi.Output[str]
    """What the members' certificates are verified with, PEM."""
    client_label: Label
    """Pods with this label are let in by the members' NetworkPolicy."""
    server_labels: Selector
    """Labels that select the members' pods."""
    port: Port
    """The port at the members' pods."""

    def __post_init__(self) -> None:
        check_fields(f'EtcdTopology "{self.name}"', self)


@dataclass(frozen=True)
class EtcdUser:
    """Who may read and write the keys with one prefix, and no others."""

    GIVEN_BY: ClassVar[str] = "cluster.user(...)"

    username: Annotated[
        str,
        matching(
            r"(?!root$)[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?",
            "from 1 to 32 lower-case letters, digits and dashes, no dash at either end, and not "
            "root",
            odd=("root", "Shop", "a" * 33, "-a", "a-", "a b", "a\n", "a/b"),
        ),
    ]
    """Name for ``POST /v3/auth/authenticate``."""
    password: Annotated[pulumi.Output[str], Deferrable(secret=True)]
    """Its password, a secret. It is known once the user is there: what mounts it starts later."""
    prefix: Annotated[
        str,
        # It begins an argument of the elector, where Kubernetes would replace $(NAME).
        matching(
            r"(?!-)[!-#%-~]{1,256}",
            "from 1 to 256 printable characters without blanks and $, not beginning with a dash, "
            "such as /shop/",
            odd=("/a b/", "/ä/", "-a", "/$(HOME)/", "/a/\n", "/" * 257),
        ),
    ]
    """Beginning of its keys."""

    def __post_init__(self) -> None:
        check_fields(f'EtcdUser "{self.username}"', self)
