"""What an etcd cluster tells its clients."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi


@dataclass(frozen=True)
class EtcdTopology:
    """Where the members are and how they are reached; for pods of the same namespace."""

    name: str
    """The cluster's name."""
    endpoints: tuple[str, ...]
    """``https`` URL of each member, by a name that stays. A client tries one after the other."""
    authority: pulumi.Output[str]
    """What the members' certificates are verified with, PEM."""
    client_label: tuple[str, str]
    """Pods with this label are let in by the members' NetworkPolicy."""
    server_labels: Mapping[str, str]
    """Labels that select the members' pods."""
    port: int
    """The port at the members' pods."""


@dataclass(frozen=True)
class EtcdUser:
    """Who may read and write the keys with one prefix, and no others."""

    username: str
    """Name for ``POST /v3/auth/authenticate``."""
    password: pulumi.Output[str]
    """Its password, a secret. It is known once the user is there: what mounts it starts later."""
    prefix: str
    """Beginning of its keys."""
