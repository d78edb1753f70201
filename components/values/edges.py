"""Who may talk to whom: one allowed connection of a NetworkPolicy."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from components.arguments import NOT_EMPTY, InputError, check_fields, one_of
from components.arguments.addresses import Network, Port
from components.arguments.names import Selector

PROTOCOLS = ("TCP", "UDP", "SCTP")


@dataclass(frozen=True)
class Edge:
    """Allowed connections to ``ports``, with the peers that all given conditions select.

    As egress the peers are destinations, as ingress they are sources. Without ``pods``,
    ``namespace`` and ``cidr`` the peer is anyone.
    """

    GIVEN_BY: ClassVar[str] = "Edge(ports=(8080,), pods={...})"

    ports: Annotated[tuple[Port, ...], NOT_EMPTY]
    """Ports at the receiving pod (not at its Service)."""
    pods: Selector | None = None
    """Labels of the peer pods; an empty mapping is every pod."""
    namespace: Selector | None = None
    """Labels of the peers' namespace. By default the workload's own."""
    cidr: Network | None = None
    """Addresses outside the cluster, for example ``203.0.113.0/24``; excludes the other two."""
    protocol: Annotated[str, one_of(*PROTOCOLS)] = "TCP"
    """Protocol of the transport layer."""

    def __post_init__(self) -> None:
        check_fields("Edge", self)
        if self.cidr is not None and (self.pods is not None or self.namespace is not None):
            raise InputError(
                "Edge", "cidr", self.cidr, "must stand alone, without pods and namespace"
            )


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
