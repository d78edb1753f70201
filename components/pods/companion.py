"""Companions: the containers of a single-node pattern, to be added to any pod."""

import dataclasses
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import pulumi
from pulumi_kubernetes.core.v1 import ContainerArgsDict, VolumeArgsDict

from components.arguments import NOT_EMPTY, InputError, Later, check_fields, matching, one_of
from components.arguments.addresses import IpAddress, Port, Protocol, is_loopback
from components.arguments.names import (
    Annotations,
    DnsLabel,
    LabelKey,
    LabelValue,
    ObjectName,
    PortName,
)
from components.values.peers import Peer, PeerArgs
from components.values.reach import Reach

ANYWHERE = "0.0.0.0"  # noqa: S104
_WILDCARDS = (ANYWHERE, "::")
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
"""What may be done at the cluster's API."""

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
    """Refuse clients of what listens for its own pod only."""
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
    """IP address it is bound to. A loopback address is for containers of the same pod only."""
    protocol: Protocol = "TCP"
    """Protocol of the transport layer."""
    clients: tuple[Peer, ...] = ()
    """Who may connect, beside what has a reach of it."""

    def __post_init__(self) -> None:
        where = f'Listener "{self.name}"'
        check_fields(where, self)
        check_clients(where, "clients", self.address, self.clients)

    @property
    def local(self) -> bool:
        """Whether only containers of the same pod reach it."""
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
    """Something that a companion may do at the cluster's API, in the workload's namespace."""

    GIVEN_BY: ClassVar[str] = 'Rule(resources=("configmaps",), verbs=("get",))'

    resources: Annotated[tuple[_Resource, ...], NOT_EMPTY]
    """Kinds, as in the API's paths: ``leases``."""
    verbs: Annotated[tuple[Annotated[str, one_of(*VERBS)], ...], NOT_EMPTY]
    """What may be done with them."""
    group: _Group = ""
    """API group, for example ``coordination.k8s.io``. Empty for the core's."""
    names: tuple[Later[ObjectName], ...] = ()
    """The objects, by name; empty for all. Creating cannot be bound to a name."""

    def __post_init__(self) -> None:
        check_fields("Rule", self)
        if self.names and "create" in self.verbs:
            raise InputError("Rule", "names", self.names, "must be empty for create")


@dataclass(frozen=True)
class Companion:
    """Containers, volumes and pod settings that a single-node pattern adds to a workload.

    The containers become native sidecars in the given order: they start before the application,
    stop after it, and let a Job end. The pod template hardens them like the application.
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
    """Those of its volumes whose files are replaced while the pod runs, by a new folder and a
    renamed link. Others mount the whole folder: ``sub_path`` would keep the first files for ever."""
    pod_labels: Mapping[LabelKey, LabelValue] = field(default_factory=dict)
    """Labels added to the pod, for example those by which Prometheus finds it."""
    pod_annotations: Annotations = field(default_factory=dict)
    """Annotations added to the pod."""
    reaches: tuple[Reach, ...] = ()
    """What its containers connect to."""
    share_process_namespace: bool = False
    """Whether the pod's containers see each other's processes."""
    rules: tuple[Rule, ...] = ()
    """What its containers may do at the cluster's API. With any, they (and no other container of
    the pod) get a token of the workload's ServiceAccount, and the way to the API server is open
    for the pod. By default nothing and no token."""
    depends_on: tuple[pulumi.Resource, ...] = ()
    """Resources that must be there before the pod."""

    def __post_init__(self) -> None:
        check_fields(f'Companion "{self.name}"', self)


def joined(name: str, *companions: Companion) -> Companion:
    """One companion of several, whose containers start in the given order."""
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
