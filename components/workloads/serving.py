"""What Application and StatefulApplication share: ports, probes, Service and budget."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes.core.v1 import ServicePortArgsDict
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from components.arguments.errors import InputError
from components.pods.companion import ANYWHERE, Listener
from components.pods.probes import probes
from components.pods.template import SPREADS
from components.values import checks
from components.values.edges import Edge
from components.workloads.arguments import PortArgs, ServingArgs
from components.workloads.files import NOTHING_MOUNTED, Mounted
from components.workloads.pod import PodPlan, check_companions, plan_pod

NOT_AWAITED = {"pulumi.com/skipAwait": "true"}
"""Annotation of a Service whose pods are waited for by themselves.

A Service that waits for its pods takes up one of the few operations that the engine carries out at a
time. With as many of them as there are operations, nothing that makes pods ever starts.
"""

_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_PORT_NAME_LIMIT = 15


@dataclass(frozen=True)
class ServingPlan:
    """A serving workload, checked before any resource is registered."""

    pod: PodPlan
    exposed: tuple[tuple[Listener, int], ...]
    """Listeners that the Service offers, each with the Service's port."""
    replicas: pulumi.Input[int]
    several: bool
    """Whether there may be two replicas or more."""

    def ingress(self) -> list[Edge]:
        """Edges from the clients to the exposed ports."""
        edges = []
        for client in self.pod.args.get("clients", ()):  # type: ignore[attr-defined]
            for protocol in sorted({listener.protocol for listener, _ in self.exposed}):
                ports = tuple(p.port for p, _ in self.exposed if p.protocol == protocol)
                edges.append(Edge(ports=ports, pods=client, protocol=protocol))
        return edges

    def service_ports(self) -> list[ServicePortArgsDict]:
        """The ports of the Service."""
        return [
            {
                "name": listener.name,
                "port": port,
                # A companion need not declare its port by name, so the number is what is sure.
                "target_port": listener.port,
                "protocol": listener.protocol,
            }
            for listener, port in self.exposed
        ]

    def disruption_budget(self, opts: pulumi.ResourceOptions) -> PodDisruptionBudget | None:
        """Lets a drain take one pod at a time; nothing for a single replica."""
        if not self.several:
            return None
        return PodDisruptionBudget(
            self.pod.name,
            metadata=self.pod.metadata(),
            spec={
                "max_unavailable": 1,
                "selector": {"match_labels": dict(self.pod.selector)},
                # A pod that is broken anyway must not hold up a drain.
                "unhealthy_pod_eviction_policy": "AlwaysAllow",
            },
            opts=opts,
        )


def plan_serving(
    where: str,
    name: str,
    args: ServingArgs,
    *,
    component: str,
    reserve: int,
    autoscaled: bool = False,
    extra: Mounted = NOTHING_MOUNTED,
) -> ServingPlan:
    """Check everything that concerns a serving workload."""
    check_companions(where, args.get("companions", ()))
    replicas = checks.integer(where, "replicas", args.get("replicas", 1), minimum=1)
    several = autoscaled or checks.is_deferred(replicas) or replicas != 1
    listeners = _listeners(where, args.get("ports", ()))
    exposed = _exposed(where, args, listeners)
    clients = args.get("clients", ())
    if clients and not exposed:
        raise InputError(where, "clients", list(clients), "needs ports that clients can reach")
    pod = plan_pod(
        where,
        name,
        args,
        component=component,
        reserve=reserve,
        listeners=listeners,
        probes=probes(
            where,
            listeners,
            startup=args.get("startup"),
            readiness=args.get("readiness"),
            liveness=args.get("liveness"),
        ),
        extra=extra,
        claims=[mount["name"] for mount in extra.mounts],
        drain_seconds=args.get("drain_seconds", 5 if exposed else 0),
        spread=_spread(where, args.get("spread", "soft"), several),
    )
    return ServingPlan(pod, exposed, replicas, several)


def _spread(where: str, spread: str, several: bool) -> str:
    checks.one_of(where, "spread", spread, SPREADS)
    return spread if several else "none"


def _listeners(where: str, ports: Sequence[PortArgs]) -> list[Listener]:
    listeners: list[Listener] = []
    for position, port in enumerate(ports):
        argument = f"ports[{position}]"
        checks.known_arguments(f"{where}: {argument}", PortArgs, port)
        name = port["name"]
        if not _PORT_NAME.fullmatch(name) or len(name) > _PORT_NAME_LIMIT:
            raise InputError(
                where,
                f"{argument}.name",
                name,
                f"must have at most {_PORT_NAME_LIMIT} lower-case letters, digits and dashes, and "
                "a letter among them",
            )
        for key in ("port", "service_port"):
            if key in port:
                value: Any = port[key]
                checks.integer(where, f"{argument}.{key}", value, minimum=1, maximum=65535)
        listeners.append(
            Listener(
                port["port"],
                name,
                port.get("address", ANYWHERE),
                port.get("protocol", "TCP"),
            )
        )
    checks.unique(where, "ports.name", [listener.name for listener in listeners])
    return listeners


def _exposed(
    where: str, args: ServingArgs, listeners: Sequence[Listener]
) -> tuple[tuple[Listener, int], ...]:
    service_ports: Mapping[str, int] = {
        port["name"]: port.get("service_port", port["port"]) for port in args.get("ports", ())
    }
    offered = {listener.name: listener for listener in listeners if not listener.local}
    chosen = list(args.get("expose", offered))
    for companion in args.get("companions", ()):
        for listener in companion.listeners:
            if not listener.local:
                offered.setdefault(listener.name, listener)
    checks.unique(where, "expose", chosen)
    for name in chosen:
        if name not in offered:
            raise InputError(where, "expose", name, checks.nearest(name, list(offered)))
    return tuple((offered[name], service_ports.get(name, offered[name].port)) for name in chosen)
