"""Reach: how clients connect to a server. Servers provide it, clients take it.

One value has the addresses, both sides of the NetworkPolicies, the dependencies and the
credentials. A workload with a reach among its ``reaches``, or with a companion that has one, gets
an egress rule in its own NetworkPolicy, and registers a NetworkPolicy with an ingress rule at the
server, also in another namespace.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import pulumi

from dds_patterns.arguments import NOT_EMPTY, InputError, Later, Secret, check_fields, matching
from dds_patterns.arguments.addresses import (
    AppProtocol,
    Endpoint,
    Network,
    Port,
    Protocol,
    is_endpoint,
    is_loopback,
)
from dds_patterns.arguments.constraints import Constraint, password
from dds_patterns.arguments.names import LABEL_LIMIT, DnsLabel, Namespace, Selector
from dds_patterns.arguments.pem import Certificates
from dds_patterns.values.topology import Topology

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ANYTHING = "tcp"
_Password = Annotated[str, password(8)]


@dataclass(frozen=True)
class Credentials:
    """What a client logs in with."""

    GIVEN_BY: ClassVar[str] = "Credentials(password.value)"

    password: Secret[_Password] = field(repr=False)
    """The password."""
    username: Annotated[
        str,
        matching(
            r"([A-Za-z0-9][-._A-Za-z0-9]*)?",
            "letters, digits, dots, dashes and underscores, such as client, or empty",
            most=64,
            odd=("-a", "a:b", "a b", "a@b", "a\n"),
        ),
    ] = ""
    """The user; empty if there is only one."""

    def __post_init__(self) -> None:
        check_fields("Credentials", self)


@dataclass(frozen=True)
class Reach:
    """How clients connect to a server.

    Components provide theirs as ``reach``. For other servers there are ``Reach.outside`` (by
    address) and this constructor (pods of others); ``Reach.local`` is in the same pod.
    """

    GIVEN_BY: ClassVar[str] = "application.reach"

    name: DnsLabel
    """Its name, in the names of NetworkPolicies."""
    endpoints: Annotated[tuple[Later[Endpoint], ...], NOT_EMPTY]
    """``host:port``: of its Service, or of each individual member or shard."""
    pods: Selector | None = None
    """Labels of the pods behind it."""
    namespace: Later[Namespace] | None = None
    """Their namespace. By default that of the pods that connect."""
    cidrs: tuple[Network, ...] = ()
    """Its addresses, instead of pods. ``0.0.0.0/0`` is any."""
    ports: tuple[Port, ...] = ()
    """Ports at the pods or addresses (not at a Service). By default those of the endpoints."""
    protocol: Protocol = "TCP"
    """Protocol of the transport layer."""
    app_protocol: AppProtocol = _ANYTHING
    """Protocol of the application layer."""
    path: Annotated[
        str,
        matching(
            "[!-~]*",
            "printable ASCII characters without blanks, such as /events",
            most=1024,
            odd=("/a b", "/a\nb", "/ä"),
        ),
    ] = ""
    """Path of the URL; for a store, the key prefix that the credentials allow."""
    authority: Later[Certificates] | None = None
    """Certificates of the authorities that its certificate is verified with, PEM. By default those
    that the client's image trusts."""
    credentials: Credentials | None = None
    """What a client logs in with."""
    topology: Topology | None = None
    """For a sharded store: the mapping of keys to the endpoints."""
    isolated: bool = False
    """Whether the pods are isolated for ingress, so that each client registers a NetworkPolicy that
    admits it. The pods of this package's workloads are. Other pods without a policy must not get
    one this way: it would block all their other clients."""
    depends_on: tuple[pulumi.Resource, ...] = ()
    """Dependencies that must be ready before a client starts."""

    def __post_init__(self) -> None:
        where = f'Reach "{self.name}"'
        check_fields(where, self)
        plain = [endpoint for endpoint in self.endpoints if isinstance(endpoint, str)]
        for position, endpoint in enumerate(plain):
            if endpoint in plain[:position]:
                raise InputError(where, "endpoints", endpoint, "must be unique")
        if self.path and not self.path.startswith("/") and self.app_protocol in _DEFAULT_PORTS:
            raise InputError(where, "path", self.path, "must begin with a slash, as in /events")
        if self.topology is not None and len(self.topology.shards) != len(self.endpoints):
            raise InputError(
                where,
                "topology",
                self.topology.shards,
                f"must have a shard for each endpoint, of which there are {len(self.endpoints)}",
            )
        self._check_peers(where, plain)
        if not self.ports:
            if len(plain) < len(self.endpoints):
                raise InputError(
                    where, "ports", None, "must be given where an endpoint is an Output"
                )
            found = sorted({int(endpoint.rpartition(":")[2]) for endpoint in plain})
            object.__setattr__(self, "ports", tuple(found))

    def _check_peers(self, where: str, plain: Sequence[str]) -> None:
        if self.pods is not None and self.cidrs:
            raise InputError(where, "cidrs", self.cidrs, "must be left out: there are pods")
        for argument in ("namespace", "isolated"):
            if getattr(self, argument) and self.pods is None:
                raise InputError(where, argument, getattr(self, argument), "needs pods")
        here = [is_loopback(endpoint.rpartition(":")[0]) for endpoint in plain]
        if self.is_local and (len(plain) < len(self.endpoints) or not all(here)):
            raise InputError(
                where,
                "pods",
                None,
                "must be given, or cidrs, for what is in no container of the same pod; the cidr "
                "0.0.0.0/0 is any address",
            )
        if not self.is_local and any(here):
            raise InputError(
                where, "endpoints", plain[here.index(True)],
                "must be no loopback address: pods and cidrs are elsewhere",
            )  # fmt: skip

    @classmethod
    def local(
        cls, port: int, *, name: str = "local", path: str = "", app_protocol: str = _ANYTHING
    ) -> "Reach":
        """A server on 127.0.0.1 in the same pod."""
        return cls(name, (f"127.0.0.1:{port}",), path=path, app_protocol=app_protocol)

    @classmethod
    def outside(
        cls,
        address: str,
        *,
        cidrs: Sequence[str],
        authority: pulumi.Input[str] | None = None,
        name: str | None = None,
    ) -> "Reach":
        """A server outside the cluster.

        :param address: an URL such as ``https://hooks.example.org/in``, or ``host:port``
        :param cidrs: its addresses; ``0.0.0.0/0`` is any
        :param authority: certificates that its own is verified with, PEM
        :param name: in the names of NetworkPolicies; by default made of the host
        :raises InputError: for what is no address
        """
        found = re.fullmatch(r"(?:(https?)://)?([^/?#@\s]+?)(?::(\d+))?([/?][!-~]*)?", str(address))
        scheme, host, port, path = found.groups() if found else (None, "", None, None)
        port = port or str(_DEFAULT_PORTS.get(scheme or "", ""))
        if not is_endpoint(f"{host}:{port}") or (path and scheme is None):
            shown = "<hidden>" if "@" in str(address) else address
            raise InputError(
                "Reach.outside", "address", shown,
                "must be a URL such as https://hooks.example.org/in, or host:port, without "
                "credentials",
            )  # fmt: skip
        slug = re.sub("[^a-z0-9]+", "-", host.lower()).strip("-")
        return cls(
            name or slug[:LABEL_LIMIT].rstrip("-"),
            (f"{host}:{port}",),
            cidrs=tuple(cidrs),
            app_protocol=scheme or _ANYTHING,
            path=f"/{path}" if path and path.startswith("?") else path or "",
            authority=authority,
        )

    def at(self, path: str) -> "Reach":
        """The same at another path, such as ``/events``."""
        return replace(self, path=path)

    @property
    def is_local(self) -> bool:
        """Whether it is in the same pod, where no NetworkPolicy applies."""
        return self.pods is None and not self.cidrs

    @property
    def endpoint(self) -> pulumi.Output[str]:
        """``host:port`` of the first endpoint."""
        return pulumi.Output.from_input(self.endpoints[0])

    @property
    def url(self) -> pulumi.Output[str]:
        """URL of the first endpoint: ``http`` unless it speaks ``https``."""
        scheme = "https" if self.app_protocol == "https" else "http"

        def url(endpoint: str) -> str:
            host = endpoint.removesuffix(f":{_DEFAULT_PORTS[scheme]}")
            return f"{scheme}://{host}{self.path or '/'}"

        return self.endpoint.apply(url)


def speaking(*protocols: str, sharded: bool = False) -> Constraint:
    """A reach of a server that speaks one of the protocols; an unspecified one is accepted.

    :param sharded: whether it is a store of several shards
    """
    says = f"a reach of a server that speaks {' or '.join(protocols)}"

    def holds(reach: Reach) -> bool:
        return reach.app_protocol in (_ANYTHING, *protocols) and (
            not sharded or reach.topology is not None
        )

    others = [word for word in ("nats", "http") if word not in protocols]
    odd = [Reach.local(1, app_protocol=word) for word in others]
    odd += [Reach.local(1)] if sharded else []
    return Constraint(f"{says}, sharded" if sharded else says, holds, tuple(odd))


ONE_ENDPOINT = Constraint(
    "of a single endpoint",
    lambda reach: len(reach.endpoints) == 1,
    (Reach("shards", ("127.0.0.1:1", "127.0.0.1:2")),),
)
"""A reach of a single server: of several endpoints only the first would be used."""
NO_QUERY = Constraint(
    "without ? and # in its path",
    lambda reach: not set(reach.path) & set("?#"),
    (Reach.local(1, path="/a?b"), Reach.local(1, path="/a#b")),
)
"""A reach whose URL gets a suffix."""
