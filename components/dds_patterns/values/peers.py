"""The other ends of connections, as a NetworkPolicy selects them, and where the cluster's own are."""

from collections.abc import Sequence
from typing import Annotated, NotRequired, TypedDict

import pulumi

from dds_patterns.arguments import NOT_EMPTY, Default, DefaultsTo, Later, resolved
from dds_patterns.arguments.addresses import Network, Port
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.names import Namespace, Selector


class PeerArgs(TypedDict):
    """Pods, or addresses outside the cluster. ``{}`` is every pod of the workload's namespace."""

    pods: NotRequired[Annotated[Selector, DefaultsTo("every pod")]]
    """Labels of the pods."""
    namespace: NotRequired[Annotated[Later[Namespace], DefaultsTo("the workload's own")]]
    """Name of their namespace."""
    namespaces: NotRequired[Selector]
    """Labels of their namespaces, instead of a name; ``{}`` is every namespace."""
    cidr: NotRequired[Network]
    """Addresses outside the cluster, for example ``203.0.113.0/24``, instead of pods."""


_ALONE = Constraint(
    "pods with at most one of namespace and namespaces, or cidr alone",
    lambda peer: len(peer) == 1 if "cidr" in peer else not {"namespace", "namespaces"} <= {*peer},
    (
        {"cidr": "203.0.113.0/24", "pods": {}},
        {"cidr": "203.0.113.0/24", "namespace": "blue"},
        {"namespace": "blue", "namespaces": {}},
    ),
)
Peer = Annotated[PeerArgs, _ALONE]
"""The other end of a connection."""
Clients = Annotated[Sequence[Peer], Default(())]
"""Peers that may connect."""

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""Label that every namespace has, with its name."""

_DNS: tuple[PeerArgs, ...] = ({"namespace": "kube-system", "pods": {"k8s-app": "kube-dns"}},)


class NetworkArgs(TypedDict):
    """Where the cluster's own services are: the stack's configuration ``dds:network``."""

    dns: NotRequired[Annotated[Sequence[Peer], NOT_EMPTY, Default(_DNS)]]
    """The DNS servers, which every pod may query. By default the pods of CoreDNS. With NodeLocal
    DNSCache add its address, ``{"cidr": "169.254.20.10/32"}``; on OpenShift they are
    ``{"namespace": "openshift-dns"}``."""
    dns_ports: NotRequired[Annotated[Sequence[Port], NOT_EMPTY, Default((53,))]]
    """Its ports at the pods, by UDP and TCP; 5353 on OpenShift."""
    api_server: NotRequired[Annotated[Sequence[Peer], DefaultsTo("any address")]]
    """The API server, for pods with ``rules``. Its address is no pod's and not known beforehand, so
    by default any address is reached at ``api_server_ports``; give the addresses as ``cidr``."""
    api_server_ports: NotRequired[Annotated[Sequence[Port], NOT_EMPTY, Default((443, 6443))]]
    """Ports at which API servers listen, behind the port 443 of their Service."""


def cluster_network() -> NetworkArgs:
    """The cluster's network in the stack's configuration.

    :raises InputError: an invalid key or value of ``dds:network``
    """
    return resolved(
        "dds:network", NetworkArgs, pulumi.Config("dds").get_object("network", default={})
    )
