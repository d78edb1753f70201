"""What Application and StatefulApplication share: ports, probes, Service and budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.core.v1 import ServicePortArgsDict
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from components.arguments import InputError, is_deferred, nearest
from components.arguments.together import unique
from components.pods.companion import Listener
from components.pods.probes import probes
from components.values.edges import Edge
from components.workloads.arguments import ServingArgs
from components.workloads.files import NOTHING_MOUNTED, Mounted
from components.workloads.pod import PodPlan, plan_pod

NOT_AWAITED = {"pulumi.com/skipAwait": "true"}
"""Annotation of a Service whose pods are waited for by themselves.

A Service that waits for its pods takes up one of the few operations that the engine carries out at a
time. With as many of them as there are operations, nothing that makes pods ever starts.
"""


@dataclass(frozen=True)
class ServingPlan:
    """A serving workload, checked before any resource is registered."""

    pod: PodPlan
    exposed: tuple[tuple[Listener, int], ...]
    """Listeners that the Service offers, each with the Service's port."""
    clients: Sequence[Mapping[str, str]]
    replicas: pulumi.Input[int]
    several: bool
    """Whether there may be two replicas or more."""

    def ingress(self) -> list[Edge]:
        """Edges from the clients to the exposed ports."""
        edges = []
        for client in self.clients:
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
    replicas = args["replicas"]
    several = autoscaled or is_deferred(replicas) or replicas != 1
    listeners = [
        Listener(port["port"], port["name"], port["address"], port["protocol"])
        for port in args["ports"]
    ]
    unique(where, "ports.name", [listener.name for listener in listeners])
    exposed = _exposed(where, args, listeners)
    if args["clients"] and not exposed:
        raise InputError(where, "clients", args["clients"], "needs ports that clients can reach")
    pod = plan_pod(
        where,
        name,
        args,
        component=component,
        reserve=reserve,
        service=bool(exposed),
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
        spread=args["spread"] if several else "none",
    )
    return ServingPlan(pod, exposed, args["clients"], replicas, several)


def _exposed(
    where: str, args: ServingArgs, listeners: Sequence[Listener]
) -> tuple[tuple[Listener, int], ...]:
    service_ports: Mapping[str, int] = {
        port["name"]: port.get("service_port", port["port"]) for port in args["ports"]
    }
    offered = {listener.name: listener for listener in listeners if not listener.local}
    chosen = list(args.get("expose", offered))
    for companion in args["companions"]:
        for listener in companion.listeners:
            if not listener.local:
                offered.setdefault(listener.name, listener)
    unique(where, "expose", chosen)
    for name in chosen:
        if name not in offered:
            raise InputError(where, "expose", name, nearest(name, list(offered)))
    exposed = tuple((offered[name], service_ports.get(name, offered[name].port)) for name in chosen)
    taken: dict[tuple[int, str], str] = {}
    for listener, port in exposed:
        other = taken.setdefault((port, listener.protocol), listener.name)
        if other != listener.name:
            raise InputError(
                where, "ports", port,
                f"must differ: {other} and {listener.name} would be one port of the Service",
            )  # fmt: skip
    return exposed
