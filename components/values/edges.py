"""Who may talk to whom: one allowed connection of a NetworkPolicy."""

from collections.abc import Mapping
from dataclasses import dataclass

from components.arguments.errors import InputError
from components.values import checks

PROTOCOLS = ("TCP", "UDP", "SCTP")


@dataclass(frozen=True)
class Edge:
    """Allowed connections to ``ports``, with the peers that all given conditions select.

    As egress the peers are destinations, as ingress they are sources. Without ``pods``,
    ``namespace`` and ``cidr`` the peer is anyone.
    """

    ports: tuple[int, ...]
    """Ports at the receiving pod (not at its Service), each from 1 to 65535; at least one."""
    pods: Mapping[str, str] | None = None
    """Labels of the peer pods; an empty mapping is every pod."""
    namespace: Mapping[str, str] | None = None
    """Labels of the peers' namespace. By default the workload's own."""
    cidr: str | None = None
    """Addresses outside the cluster, for example ``203.0.113.0/24``; excludes the other two."""
    protocol: str = "TCP"
    """``TCP``, ``UDP`` or ``SCTP``."""

    def __post_init__(self) -> None:
        if not self.ports:
            raise InputError("Edge", "ports", self.ports, "must have at least one port")
        for port in self.ports:
            checks.port("Edge", "ports", port)
        checks.one_of("Edge", "protocol", self.protocol, PROTOCOLS)
        if self.cidr is not None:
            if self.pods is not None or self.namespace is not None:
                raise InputError(
                    "Edge", "cidr", self.cidr, "must stand alone, without pods and namespace"
                )
            checks.network("Edge", "cidr", self.cidr)


DNS = (
    Edge(
        ports=(53,),
        pods={"k8s-app": "kube-dns"},
        namespace={"kubernetes.io/metadata.name": "kube-system"},
        protocol="UDP",
    ),
    # Answers that do not fit a datagram are asked for again over TCP.
    Edge(
        ports=(53,),
        pods={"k8s-app": "kube-dns"},
        namespace={"kubernetes.io/metadata.name": "kube-system"},
        protocol="TCP",
    ),
)
"""The cluster's name service, which every pod may ask."""

API_SERVER = Edge(ports=(443, 6443))
"""The cluster's API. Its address is no pod's and not known beforehand, so the ports are what can be
said: those at which API servers listen, behind the port 443 of their Service."""
