"""Companions: the containers of a single-node pattern, to be added to any pod."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
from pulumi_kubernetes.core.v1 import ContainerArgsDict, VolumeArgsDict

from components.arguments.errors import InputError
from components.values import checks
from components.values.edges import PROTOCOLS, Edge

ANYWHERE = "0.0.0.0"  # noqa: S104
_WILDCARDS = (ANYWHERE, "::")


@dataclass(frozen=True)
class Listener:
    """A port on which a container of the pod listens."""

    port: int
    """From 1 to 65535."""
    name: str
    """Name of the port, at most 15 lower-case letters, digits and dashes."""
    address: str = ANYWHERE
    """IP address it is bound to. A loopback address is for containers of the same pod only."""
    protocol: str = "TCP"
    """``TCP``, ``UDP`` or ``SCTP``."""

    def __post_init__(self) -> None:
        where = f'Listener "{self.name}"'
        checks.port(where, "port", self.port)
        checks.one_of(where, "protocol", self.protocol, PROTOCOLS)
        try:
            ipaddress.ip_address(self.address)
        except ValueError:
            raise InputError(
                where, "address", self.address, "must be an IP address such as 127.0.0.1"
            ) from None

    @property
    def local(self) -> bool:
        """Whether only containers of the same pod reach it."""
        return ipaddress.ip_address(self.address).is_loopback

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

    resources: tuple[str, ...]
    """Kinds, as in the API's paths: ``leases``."""
    verbs: tuple[str, ...]
    """``get``, ``list``, ``watch``, ``create``, ``update``, ``patch``, ``delete``."""
    group: str = ""
    """API group, for example ``coordination.k8s.io``. Empty for the core's."""
    names: tuple[pulumi.Input[str], ...] = ()
    """The objects, by name; empty for all. Creating cannot be bound to a name."""

    def __post_init__(self) -> None:
        for argument, words in (("resources", self.resources), ("verbs", self.verbs)):
            if not words or any(not word or word == "*" for word in words):
                raise InputError("Rule", argument, words, "must name each, without *")
        if self.names and "create" in self.verbs:
            raise InputError("Rule", "names", self.names, "must be empty for create")


@dataclass(frozen=True)
class Companion:
    """Containers, volumes and pod settings that a single-node pattern adds to a workload.

    The containers become native sidecars in the given order: they start before the application,
    stop after it, and let a Job end. The pod template hardens them like the application.
    """

    name: str
    """Name in messages; unique among the companions of one pod."""
    containers: tuple[ContainerArgsDict, ...]
    """At least one. Give each a ``startup_probe``: the next container waits for it."""
    listeners: tuple[Listener, ...] = ()
    """Every port on which its containers listen."""
    volumes: tuple[VolumeArgsDict, ...] = ()
    """Volumes of the pod; their names must differ from those of the other companions."""
    reloading: tuple[str, ...] = ()
    """Those of its volumes whose files are replaced while the pod runs, by a new folder and a
    renamed link. Others mount the whole folder: ``sub_path`` would keep the first files for ever."""
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels added to the pod, for example a store's client label."""
    pod_annotations: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Annotations added to the pod."""
    egress: tuple[Edge, ...] = ()
    """Connections that its containers open."""
    ingress: tuple[Edge, ...] = ()
    """Connections that its containers accept from other pods."""
    share_process_namespace: bool = False
    """Whether the pod's containers see each other's processes."""
    rules: tuple[Rule, ...] = ()
    """What its containers may do at the cluster's API. With any, they (and no other container of
    the pod) get a token of the workload's ServiceAccount, and the way to the API server is open
    for the pod. By default nothing and no token."""
    depends_on: tuple[pulumi.Resource, ...] = ()
    """Resources that must be there before the pod."""

    def __post_init__(self) -> None:
        if not self.containers:
            raise InputError(
                f'Companion "{self.name}"', "containers", self.containers, "must not be empty"
            )
