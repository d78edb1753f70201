"""What Application and StatefulApplication share: ports, probes, Service, PodDisruptionBudget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pulumi
from pulumi_kubernetes.core.v1 import Service, ServicePortArgsDict
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from dds_patterns.arguments import DISTINCT, InputError, is_deferred, nearest
from dds_patterns.arguments.place import Place
from dds_patterns.pods import labels as pod_labels
from dds_patterns.pods.companion import Listener, check_clients
from dds_patterns.pods.hosting import ReplicaHosting
from dds_patterns.pods.probes import probes
from dds_patterns.pods.spread import check_spread
from dds_patterns.values.reach import Reach
from dds_patterns.workloads.arguments import PortArgs, ServingArgs
from dds_patterns.workloads.files import NOTHING_MOUNTED, Mounted
from dds_patterns.workloads.network import Admission
from dds_patterns.workloads.pod import PodPlan, plan_pod
from dds_patterns.workloads.rank import ALONE, Rank
from dds_patterns.workloads.rollout import rollout_timeouts
from dds_patterns.workloads.service_reach import service_reach

NOT_AWAITED = {"pulumi.com/skipAwait": "true"}
"""Annotation of a Service that does not wait for its pods, since their workload is waited for.

A Service that waits for its pods occupies one of the engine's few parallel operations. If such
Services occupy all of them, the workloads that create the pods never start: a deadlock.
"""


class Exposed(NamedTuple):
    """A port of the Service."""

    listener: Listener
    port: int
    """Its number at the Service."""
    app_protocol: str


class Served:
    """A workload with a Service in front of its pods."""

    labels: dict[str, str]
    """Labels that select the pods."""
    endpoint: pulumi.Output[str] | None
    """``host:port`` of the Service's first port, from anywhere in the cluster; None without ports."""
    ports: dict[str, Reach]
    """How clients reach each port of the Service, by its name."""
    _where: str

    @property
    def reach(self) -> Reach:
        """How clients reach the Service's first port; InputError without any."""
        if not self.ports:
            raise InputError(self._where, "ports", [], "must have one to be reached at")
        return next(iter(self.ports.values()))

    def port(self, name: str) -> Reach:
        """One of ``ports``; InputError, with the nearest name, for one that is not there."""
        if name not in self.ports:
            raise InputError(self._where, "ports", name, nearest(name, self.ports))
        return self.ports[name]


@dataclass(frozen=True)
class ServingPlan:
    """A serving workload, checked before any resource is registered."""

    pod: PodPlan
    hosting: ReplicaHosting
    exposed: tuple[Exposed, ...]
    """The ports of the Service."""
    replicas: pulumi.Input[int]
    several: bool
    """Whether there may be two pods or more, which are then spread."""
    drain_seconds: int

    def timeouts(self) -> pulumi.CustomTimeouts:
        """The engine's timeouts for the pods."""
        return rollout_timeouts(
            self.replicas,
            end_seconds=self.pod.args["termination_grace_period_seconds"] + self.drain_seconds,
            min_ready_seconds=self.hosting["min_ready_seconds"],
            probes=self.pod.probes,
        )

    def reaches(
        self, service: Service, depends_on: tuple[pulumi.Resource, ...]
    ) -> dict[str, Reach]:
        """How clients reach the ports of the Service, by their names.

        :param depends_on: what clients wait for
        """
        return {
            listener.name: service_reach(
                self.pod.name,
                [service],
                port,
                pods=self.pod.selector,
                target_port=listener.port,
                protocol=listener.protocol,
                app_protocol=app_protocol,
                depends_on=depends_on,
            )
            for listener, port, app_protocol in self.exposed
        }

    def service_metadata(self, *, awaited: bool = False) -> ObjectMetaArgsDict:
        """Metadata of the Service.

        :param awaited: whether the engine waits until it has an address or endpoints
        """
        return self.pod.metadata(
            annotations={
                **self.hosting["service_annotations"],
                **({} if awaited else NOT_AWAITED),
            }
        )

    def service_ports(self) -> list[ServicePortArgsDict]:
        """The ports of the Service."""
        return [
            service_port(
                listener.name,
                number,
                # By number, since a companion's container need not name its port.
                target_port=listener.port,
                protocol=listener.protocol,
                app_protocol=app_protocol,
            )
            for listener, number, app_protocol in self.exposed
        ]

    def disruption_budget(self, opts: pulumi.ResourceOptions) -> PodDisruptionBudget | None:
        """Allow a drain to evict one pod at a time; None for a single replica, or for one of several
        ranks: a pod that two budgets select cannot be evicted at all.
        """
        if not self.several or self.pod.rank.several:
            return None
        return disruption_budget(self.pod.name, self.pod.metadata(), self.pod.selector, opts)


def service_port(
    name: str,
    port: int,
    *,
    target_port: int | None = None,
    protocol: str = "TCP",
    app_protocol: str = "tcp",
) -> ServicePortArgsDict:
    """A port of a Service.

    :param target_port: at the pods; by default the same
    """
    found: ServicePortArgsDict = {
        "name": name,
        "port": port,
        "target_port": port if target_port is None else target_port,
        "protocol": protocol,
    }
    if app_protocol != "tcp":
        found["app_protocol"] = app_protocol
    return found


def disruption_budget(
    name: str,
    metadata: ObjectMetaArgsDict,
    selector: Mapping[str, str],
    opts: pulumi.ResourceOptions,
) -> PodDisruptionBudget:
    """Allow a drain to evict one of the selected pods at a time."""
    return PodDisruptionBudget(
        name,
        metadata=metadata,
        spec={
            "max_unavailable": 1,
            "selector": {"match_labels": dict(selector)},
            # A pod that is not ready must not block a drain.
            "unhealthy_pod_eviction_policy": "AlwaysAllow",
        },
        opts=opts,
    )


def plan_serving(
    where: str,
    name: str,
    args: ServingArgs,
    hosting: ReplicaHosting,
    *,
    component: str,
    reserve: int,
    autoscaled: bool = False,
    replicated: bool = False,
    extra: Mounted = NOTHING_MOUNTED,
    rank: Rank = ALONE,
) -> ServingPlan:
    """Check all arguments of a serving workload.

    :param hosting: as it was resolved
    :param replicated: whether it is a StatefulSet, which has a Service also without ports
    :param rank: which of several it is
    """
    check_spread(where, hosting["spread"])
    replicas = args["replicas"]
    several = rank.several or autoscaled or is_deferred(replicas) or replicas != 1
    listeners = listeners_of(where, args["ports"])
    DISTINCT.check(Place(where, "ports.name"), [listener.name for listener in listeners])
    exposed = _exposed(where, args, listeners)
    # In a rollout of a Deployment the old pods must not count for the spread of the new ones. A
    # StatefulSet terminates a pod before it creates its successor.
    match_label = None if replicated else "pod-template-hash"
    if args["clients"] and not exposed:
        raise InputError(where, "clients", args["clients"], "needs ports that clients can reach")
    drain_seconds = args.get("drain_seconds", 5 if exposed else 0)
    pod = plan_pod(
        where,
        name,
        args,
        hosting,
        component=component,
        reserve=reserve,
        service=replicated or bool(exposed),
        replicated=replicated,
        listeners=listeners,
        admissions=_admissions(args, listeners, exposed),
        probes=probes(
            where,
            listeners,
            startup=args.get("startup"),
            readiness=args.get("readiness"),
            liveness=args.get("liveness"),
        ),
        extra=extra,
        claims=[mount["name"] for mount in extra.mounts],
        drain_seconds=drain_seconds,
        spread=hosting["spread"] if several else None,
        match_label=pod_labels.POD_INDEX if rank.several else match_label,
        rank=rank,
    )
    return ServingPlan(pod, hosting, exposed, replicas, several, drain_seconds)


def listeners_of(where: str, ports: Sequence[PortArgs]) -> list[Listener]:
    """The ports on which a program listens.

    :param ports: as they were resolved
    """
    listeners = []
    for position, port in enumerate(ports):
        clients = tuple(port.get("clients", ()))
        check_clients(where, f"ports[{position}].clients", port["address"], clients)
        listeners.append(
            Listener(port["port"], port["name"], port["address"], port["protocol"], clients)
        )
    return listeners


def _admissions(
    args: ServingArgs, listeners: Sequence[Listener], exposed: Sequence[Exposed]
) -> list[Admission]:
    """The clients of the application's ports, and of a companion's that the Service exposes."""
    own = {port["name"]: port["clients"] for port in args["ports"] if "clients" in port}
    offered = {port.listener.name: port.listener for port in exposed}
    return [
        Admission(
            listener.port,
            listener.protocol,
            own.get(name, args["clients"] if name in offered else ()),
        )
        for name, listener in ({each.name: each for each in listeners} | offered).items()
    ]


def _exposed(where: str, args: ServingArgs, listeners: Sequence[Listener]) -> tuple[Exposed, ...]:
    offered = {listener.name: listener for listener in listeners if not listener.local}
    own = {port["name"]: port for port in args["ports"] if port["name"] in offered}
    chosen = list(args.get("expose", offered))
    for companion in args["companions"]:
        for listener in companion.listeners:
            if not listener.local:
                offered.setdefault(listener.name, listener)
    DISTINCT.check(Place(where, "expose"), chosen)
    for name in chosen:
        if name not in offered:
            raise InputError(where, "expose", name, nearest(name, list(offered)))
    exposed = tuple(
        Exposed(
            offered[name],
            own[name].get("service_port", own[name]["port"]) if name in own else offered[name].port,
            own[name]["app_protocol"] if name in own else "tcp",
        )
        for name in chosen
    )
    taken: dict[tuple[int, str], str] = {}
    for listener, number, _ in exposed:
        other = taken.setdefault((number, listener.protocol), listener.name)
        if other != listener.name:
            raise InputError(
                where, "ports", number,
                f"must differ: {other} and {listener.name} would be one port of the Service",
            )  # fmt: skip
    return exposed
