"""Companions: the containers of a single-node pattern, to be added to any pod."""

import dataclasses
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import pulumi
from pulumi_kubernetes.core.v1 import ContainerArgsDict, VolumeArgsDict

from dds_patterns.arguments import NOT_EMPTY, InputError, Later, check_fields, matching, one_of
from dds_patterns.arguments.addresses import IpAddress, Port, Protocol, is_loopback
from dds_patterns.arguments.names import (
    Annotations,
    DnsLabel,
    LabelKey,
    LabelValue,
    ObjectName,
    PortName,
)
from dds_patterns.values.peers import Peer, PeerArgs
from dds_patterns.values.reach import Reach

ANYWHERE = "0.0.0.0"  # noqa: S104
LOOPBACK = "127.0.0.1"
"""Address of what only containers of the same pod reach."""
_WILDCARDS = (ANYWHERE, "::")
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
"""Verbs of RBAC rules."""

_Resource = Annotated[
    str,
    matching(
        "[a-z]+(/[a-z]+)?", "a kind as in the API's paths, such as leases", most=63, odd=("*",)
    ),
]
_Group = Annotated[
    str, matching("[-.a-z0-9]*", "an API group such as coordination.k8s.io", most=253, odd=("*",))
]


def check_clients(where: str, argument: str, address: str, clients: Sequence[PeerArgs]) -> None:
    """Refuse clients of a port that listens on loopback."""
    if clients and is_loopback(address):
        raise InputError(where, argument, clients, f"cannot reach {address}: it is the pod's own")


@dataclass(frozen=True)
class Listener:
    """A port on which a container of the pod listens."""

    port: Port
    """The port."""
    name: PortName
    """Name of the port."""
    address: IpAddress = ANYWHERE
    """IP address that it is bound to. A loopback address is for containers of the same pod only."""
    protocol: Protocol = "TCP"
    """Transport protocol."""
    clients: tuple[Peer, ...] = ()
    """Clients that may connect, besides workloads with a reach of it."""

    def __post_init__(self) -> None:
        where = f'Listener "{self.name}"'
        check_fields(where, self)
        check_clients(where, "clients", self.address, self.clients)

    @property
    def local(self) -> bool:
        """Whether only containers of the same pod can connect."""
        return is_loopback(self.address)

    def collides(self, other: "Listener") -> bool:
        """Whether the two cannot be bound in one pod."""
        if (self.port, self.protocol) != (other.port, other.protocol):
            return False
        here = ipaddress.ip_address(self.address)
        there = ipaddress.ip_address(other.address)
        # A socket on :: takes the IPv4 port as well, unless told otherwise.
        return here == there or str(here) in _WILDCARDS or str(there) in _WILDCARDS


@dataclass(frozen=True)
class Rule:
    """RBAC rule: what a workload or companion may do with the cluster's API, in its namespace."""

    GIVEN_BY: ClassVar[str] = 'Rule(resources=("configmaps",), verbs=("get",))'

    resources: Annotated[tuple[_Resource, ...], NOT_EMPTY]
    """Resources, as in the API's paths: ``leases``."""
    verbs: Annotated[tuple[Annotated[str, one_of(*VERBS)], ...], NOT_EMPTY]
    """Verbs that are allowed for them."""
    group: _Group = ""
    """API group, for example ``coordination.k8s.io``. Empty for the core group."""
    names: tuple[Later[ObjectName], ...] = ()
    """Names of the objects; empty for all. ``create`` cannot be restricted by name."""

    def __post_init__(self) -> None:
        check_fields("Rule", self)
        if self.names and "create" in self.verbs:
            raise InputError("Rule", "names", self.names, "must be empty for create")


@dataclass(frozen=True)
class Companion:
    """Containers, volumes and pod settings that a single-node pattern adds to a workload.

    The containers become native sidecars in the given order: they start before the application,
    stop after it, and let a Job complete. The pod template hardens them like the application.
    """

    GIVEN_BY: ClassVar[str] = "proxy.companion"

    name: DnsLabel
    """Name in messages; unique among the companions of one pod."""
    containers: Annotated[tuple[ContainerArgsDict, ...], NOT_EMPTY]
    """Its containers. Give each a ``startup_probe``: the next container waits for it."""
    listeners: tuple[Listener, ...] = ()
    """Every port on which its containers listen."""
    volumes: tuple[VolumeArgsDict, ...] = ()
    """Volumes of the pod; their names must differ from those of the other companions."""
    reloading: tuple[DnsLabel, ...] = ()
    """Names of its volumes whose files are replaced while the pod runs, by a new folder and a renamed
    link. Containers must mount the whole folder: a ``sub_path`` never sees the update."""
    pod_labels: Mapping[LabelKey, LabelValue] = field(default_factory=dict)
    """Labels added to the pod, for example those by which Prometheus finds it."""
    pod_annotations: Annotations = field(default_factory=dict)
    """Annotations added to the pod."""
    reaches: tuple[Reach, ...] = ()
    """What its containers connect to."""
    share_process_namespace: bool = False
    """Whether the pod's containers see each other's processes."""
    rules: tuple[Rule, ...] = ()
    """RBAC rules: what its containers may do with the cluster's API. With any, they (and no other
    container of the pod) get a token of the workload's ServiceAccount, and the NetworkPolicy allows
    egress to the API server. By default they have no permissions and no token."""
    depends_on: tuple[pulumi.Resource, ...] = ()
    """Dependencies of the pod."""

    def __post_init__(self) -> None:
        check_fields(f'Companion "{self.name}"', self)


def joined(name: str, *companions: Companion) -> Companion:
    """Several companions as one, whose containers start in the given order."""
    fields: dict[str, Any] = {}
    for each in dataclasses.fields(Companion):
        values = [getattr(companion, each.name) for companion in companions]
        if isinstance(values[0], tuple):
            fields[each.name] = tuple(item for value in values for item in value)
        elif isinstance(values[0], Mapping):
            fields[each.name] = {key: item for value in values for key, item in value.items()}
        elif isinstance(values[0], bool):
            fields[each.name] = any(values)
    return Companion(**{**fields, "name": name})
