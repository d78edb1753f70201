"""StatefulApplication: a StatefulSet with all that belongs to it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, NotRequired, cast

import pulumi
from pulumi_kubernetes.apps.v1 import StatefulSet, StatefulSetSpecArgsDict
from pulumi_kubernetes.core.v1 import (
    PersistentVolumeClaim,
    Service,
    ServicePortArgsDict,
    ServiceSpecArgsDict,
)

from dds_patterns.arguments import Default, InputError, is_deferred, resolved
from dds_patterns.arguments.files import MountPath
from dds_patterns.pods.hosting import ReplicaHosting, StatefulHosting, object_metadata, storage_of
from dds_patterns.pods.labels import POD_INDEX
from dds_patterns.values.names import child
from dds_patterns.workloads.arguments import ReachedArgs, ServingArgs
from dds_patterns.workloads.claims import CLAIM, SIZE_OF_TEMPLATE, claim_template, make_claims
from dds_patterns.workloads.files import NOTHING_MOUNTED, Mounted
from dds_patterns.workloads.pod import make_pod_resources
from dds_patterns.workloads.rank import ALONE, Rank
from dds_patterns.workloads.serving import NOT_AWAITED, Served, ServingPlan, plan_serving

RESERVE = 11
"""Characters that a pod's label controller-revision-hash adds to the name: a dash and ten."""


class StatefulArgs(ReachedArgs):
    """A workload whose pods have stable names and their own data."""

    storage_path: NotRequired[MountPath]
    """Absolute path where each replica mounts its persistent volume. By default there is none."""
    ordered: NotRequired[Annotated[bool, Default(False)]]
    """Whether replicas start one after the other, each after the previous one is ready; otherwise all
    start at once."""
    hosting: NotRequired[Annotated[StatefulHosting, Default({})]]
    """Namespace, labels, nodes, resources, spread and storage."""


class StatefulApplicationArgs(ServingArgs, StatefulArgs):
    """Arguments of StatefulApplication."""


class StatefulApplication(Served, pulumi.ComponentResource):
    """A program whose replicas have stable names and their own data.

    Registers a StatefulSet and its headless Service (both named ``name``, since the names of the
    pods derive from it), a ServiceAccount and a NetworkPolicy that denies all connections but the
    declared ones; one more NetworkPolicy for each workload that it reaches, which allows its ingress
    there; a PodDisruptionBudget from two replicas on; with a ``storage_path`` the
    PersistentVolumeClaim of each replica, ``data-<name>-<n>``. Pods that are not ready have DNS names
    too, so that peers find each other while they start.

    A larger ``hosting.storage.size`` expands the claims while pods use them. If ``replicas`` is an
    Output, their number is unknown: the StatefulSet creates the claims, and a changed size replaces
    the StatefulSet.
    """

    stateful_set: StatefulSet
    """The StatefulSet."""
    service: Service
    """The headless Service; its DNS name resolves to all replicas."""
    hosts: pulumi.Output[list[str]]
    """DNS name of each replica, for pods of the same namespace."""

    def __init__(
        self,
        name: str,
        args: StatefulApplicationArgs,
        opts: pulumi.ResourceOptions | None = None,
        *,
        rank: Rank = ALONE,
    ) -> None:
        """Register the application.

        :param name: a DNS label of at most 52 characters, unique in its namespace, that does not end
            as replicas' do (-0, -r1)
        :param rank: which of several it is, for a component that consists of them
        :raises InputError: an invalid argument, before anything is registered
        """
        args, plan = _plan(name, args, f'StatefulApplication "{name}"', rank)
        hosting = args["hosting"]
        super().__init__(
            "dds:index:StatefulApplication",
            name,
            {"image": args["image"], "replicas": plan.replicas},
            opts,
        )
        below = pulumi.ResourceOptions(parent=self)
        self.labels = dict(plan.pod.selector)
        service: ServiceSpecArgsDict = {
            "cluster_ip": "None",
            "selector": dict(plan.pod.selector),
            "publish_not_ready_addresses": True,
        }
        if plan.exposed:
            service["ports"] = plan.service_ports()
        self.service = Service(
            name,
            metadata={**plan.service_metadata(awaited=True), "name": name},
            spec=service,
            opts=below,
        )
        resources = make_pod_resources(plan.pod, self)
        plan.disruption_budget(below)
        spec: StatefulSetSpecArgsDict = {
            "replicas": plan.replicas,
            "service_name": self.service.metadata["name"],
            "pod_management_policy": "OrderedReady" if args["ordered"] else "Parallel",
            "selector": {"match_labels": dict(plan.pod.selector)},
            "template": resources.template,
        }
        if hosting["min_ready_seconds"]:
            spec["min_ready_seconds"] = hosting["min_ready_seconds"]
        claims: list[PersistentVolumeClaim] = []
        if "storage_path" in args:
            storage = storage_of(hosting)
            if not is_deferred(plan.replicas):
                claims = make_claims(plan.pod, storage, cast(int, plan.replicas), below)
            spec["volume_claim_templates"] = [claim_template(plan.pod.selector, storage)]
            spec["persistent_volume_claim_retention_policy"] = {
                "when_deleted": "Delete" if storage["delete_with_workload"] else "Retain",
                # A replica that is scaled down and up again has its data.
                "when_scaled": "Retain",
            }
        self.stateful_set = StatefulSet(
            name,
            metadata={**plan.pod.metadata(), "name": name},
            spec=spec,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*resources.dependencies, *claims, *rank.after],
                ignore_changes=[SIZE_OF_TEMPLATE] if claims else None,
                custom_timeouts=plan.timeouts(),
            ),
        )
        self._where = plan.pod.where
        self.ports = plan.reaches(self.service, (self.stateful_set,))
        self.endpoint = self.reach.endpoint if plan.exposed else None
        self.hosts = pulumi.Output.from_input(plan.replicas).apply(
            lambda known: [f"{name}-{ordinal}.{name}" for ordinal in range(int(known))]
        )
        self.register_outputs(
            {"labels": self.labels, "endpoint": self.endpoint, "hosts": self.hosts}
        )

    @staticmethod
    def validate(
        where: str, name: str, args: StatefulApplicationArgs, *, rank: Rank = ALONE
    ) -> Sequence[str]:
        """Check the arguments for a component that is made of a StatefulApplication.

        :param where: that component, for messages
        :returns: names of the ports of its Service
        """
        _, plan = _plan(name, args, where, rank)
        return [port.listener.name for port in plan.exposed]


def replica_services(
    name: str,
    count: int,
    *,
    labels: Mapping[str, str],
    selector: Mapping[str, str],
    ports: Sequence[ServicePortArgsDict],
    hosting: ReplicaHosting,
    opts: pulumi.ResourceOptions,
    not_ready: bool = False,
) -> list[Service]:
    """A stable address for each ordinal, which stays when the pod moves.

    The names of the headless Service follow the pods, but the cluster's DNS has negative caching: a
    name that it could not resolve stays missing for half a minute.

    :param name: the StatefulApplication; the Services are called ``name-0``, ``name-1``, ...
    :param labels: those that select the application's pods, for the Services themselves
    :param selector: labels of the pods, of several ranks if there are
    :param not_ready: whether clients reach replicas that are not ready as well
    """
    services = []
    annotations = {**hosting["service_annotations"], **NOT_AWAITED}
    for ordinal in range(count):
        spec: ServiceSpecArgsDict = {
            "type": "ClusterIP",
            "selector": {**selector, POD_INDEX: str(ordinal)},
            "ports": list(ports),
        }
        if not_ready:
            spec["publish_not_ready_addresses"] = True
        metadata = object_metadata(labels, hosting, annotations=annotations)
        metadata["name"] = f"{name}-{ordinal}"
        services.append(Service(child(name, str(ordinal)), metadata=metadata, spec=spec, opts=opts))
    return services


def _plan(
    name: str, args: StatefulApplicationArgs, where: str, rank: Rank
) -> tuple[StatefulApplicationArgs, ServingPlan]:
    args = resolved(where, StatefulApplicationArgs, args)
    extra = NOTHING_MOUNTED
    hosting = args["hosting"]
    if "storage_path" in args:
        extra = Mounted((), ({"name": CLAIM, "mount_path": args["storage_path"]},))
    elif "storage" in hosting:
        raise InputError(
            where, "hosting.storage", hosting["storage"], "must be left out without a storage_path"
        )
    plan = plan_serving(
        where,
        name,
        args,
        hosting,
        component="stateful-application",
        reserve=RESERVE,
        replicated=True,
        extra=extra,
        rank=rank,
    )
    for position, port in enumerate(args["ports"]):
        if port.get("service_port", port["port"]) != port["port"]:
            raise InputError(
                where, f"ports[{position}].service_port", port["service_port"],
                f"must be left out: its headless Service names the pods, whose port is {port['port']}",
            )  # fmt: skip
    return args, plan
