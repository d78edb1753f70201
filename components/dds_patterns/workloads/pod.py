"""From a workload's arguments to its pod and the objects that every workload has."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    PodTemplateSpecArgsDict,
    ServiceAccount,
    VolumeArgsDict,
    VolumeMountArgsDict,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from dds_patterns.arguments import DISTINCT
from dds_patterns.arguments.names import check_name
from dds_patterns.arguments.place import Place
from dds_patterns.arguments.plain import filled
from dds_patterns.pods import labels as pod_labels
from dds_patterns.pods.account import token
from dds_patterns.pods.companion import Companion, Listener
from dds_patterns.pods.hosting import PodHosting, object_metadata
from dds_patterns.pods.template import pod_template
from dds_patterns.values.peers import cluster_network
from dds_patterns.workloads.arguments import InitContainerArgs, PodArgs
from dds_patterns.workloads.environment import in_order
from dds_patterns.workloads.files import (
    NOTHING_MOUNTED,
    FileSet,
    Mounted,
    file_set,
    writable_folders,
)
from dds_patterns.workloads.network import Admission, Connections
from dds_patterns.workloads.permissions import permissions
from dds_patterns.workloads.rank import ALONE, Rank

# Placeholder for names while the arguments are checked.
_UNNAMED = "unnamed"


@dataclass(frozen=True)
class PodPlan:
    """A workload's pod, checked before any resource is registered."""

    where: str
    name: str
    args: PodArgs
    hosting: PodHosting
    selector: dict[str, str]
    listeners: tuple[Listener, ...]
    probes: Mapping[str, Any]
    settings: Mapping[str, Any]
    """More arguments for ``pod_template``."""
    extra: Mounted
    """Volumes of the workload itself, such as claims of a StatefulSet (without a volume)."""
    files: FileSet
    secret_files: FileSet
    writable: Mounted
    connections: Connections
    rank: Rank

    @property
    def companions(self) -> tuple[Companion, ...]:
        """The companions, in order."""
        return tuple(self.args["companions"])

    def metadata(
        self, *, annotations: Mapping[str, pulumi.Input[str]] | None = None
    ) -> ObjectMetaArgsDict:
        """Metadata of every object of the workload; auto-naming adds the name.

        :param annotations: more of them, for this object
        """
        return object_metadata(
            self.selector, self.hosting, version=self.args.get("version"), annotations=annotations
        )

    def template(
        self,
        files: pulumi.Input[str] = _UNNAMED,
        secret_files: pulumi.Input[str] = _UNNAMED,
        service_account: pulumi.Input[str] = _UNNAMED,
    ) -> PodTemplateSpecArgsDict:
        """The hardened pod template, which mounts the named objects."""
        mounted = (
            self.files.mounted(files),
            self.secret_files.mounted(secret_files),
            self.writable,
            self.extra,
        )
        volumes: list[VolumeArgsDict] = [v for m in mounted for v in m.volumes]
        volumes += self.args["volumes"]
        mounts: list[VolumeMountArgsDict] = [v for m in mounted for v in m.mounts]
        mounts += self.args["volume_mounts"]
        own = mounts
        if self.args["rules"]:
            volume, mount = token(self.name)
            volumes.append(volume)
            own = [*mounts, mount]
        return pod_template(
            self.where,
            [self._container(own)],
            self.companions,
            init_containers=[
                self._preparation(preparation, mounts)
                for preparation in self.args["init_containers"]
            ],
            listeners=self.listeners,
            labels={
                **pod_labels.standard(self.selector, self.args.get("version")),
                **self.rank.labels,
            },
            hosting=self.hosting,
            volumes=volumes,
            service_account=service_account,
            user=self.args["user"],
            group=self.args.get("group"),
            termination_grace_period_seconds=self.args["termination_grace_period_seconds"],
            selector=self.rank.labels if self.rank.several else self.selector,
            exceptions=self.args["exceptions"],
            **self.settings,
        )

    def _container(self, mounts: Sequence[VolumeMountArgsDict]) -> ContainerArgsDict:
        args = self.args
        env: list[Any] = [{"name": key, "value": args["env"][key]} for key in in_order(args["env"])]
        if self.rank.variable:
            number = {"field_path": f"metadata.labels['{pod_labels.POD_INDEX}']"}
            env.append({"name": self.rank.variable, "value_from": {"field_ref": number}})
        more = {
            "env": env,
            "ports": [
                {"name": p.name, "container_port": p.port, "protocol": p.protocol}
                for p in self.listeners
            ],
            "volume_mounts": list(mounts),
        }
        container = {
            "name": self.selector["app.kubernetes.io/name"],
            "image": args["image"],
            "resources": self.hosting["resources"],
            **self.probes,
            **{key: value for key, value in args.items() if key in ("command", "args")},
            **filled(more),
        }
        return cast(ContainerArgsDict, container)

    def _preparation(
        self, args: InitContainerArgs, mounts: Sequence[VolumeMountArgsDict]
    ) -> ContainerArgsDict:
        container = {
            "name": args["name"],
            "image": args.get("image", self.args["image"]),
            "command": args["command"],
            "resources": args["resources"],
            **filled({"volume_mounts": list(mounts)}),
        }
        return cast(ContainerArgsDict, container)


def plan_pod(
    where: str,
    name: str,
    args: PodArgs,
    hosting: PodHosting,
    *,
    component: str,
    reserve: int,
    service: bool = False,
    replicated: bool = False,
    listeners: Sequence[Listener] = (),
    admissions: Sequence[Admission] = (),
    probes: Mapping[str, Any] | None = None,
    extra: Mounted = NOTHING_MOUNTED,
    rank: Rank = ALONE,
    **settings: Any,
) -> PodPlan:
    """Check all arguments of the pod.

    :param component: default of the label app.kubernetes.io/component
    :param args: as they were resolved
    :param hosting: as it was resolved
    :param reserve: characters that the workload's own objects add to its name
    :param service: whether a Service has its name
    :param replicated: whether that name is used unchanged, as for a StatefulSet
    :param admissions: clients of the listeners
    :param rank: which of several it is; their component has checked the name
    :param settings: more arguments for ``pod_template``
    """
    if rank is ALONE:
        check_name(where, name, reserve=reserve, service=service, replicated=replicated)
    DISTINCT.check(Place(where, "companions"), [companion.name for companion in args["companions"]])
    selector = pod_labels.selector(
        args.get("application", name), name, args.get("component", component)
    )
    companions = args["companions"]
    connections = Connections(
        [
            *admissions,
            *(
                Admission(listener.port, listener.protocol, listener.clients)
                for companion in companions
                for listener in companion.listeners
            ),
        ],
        [
            reach
            for reach in (*args["reaches"], *(r for c in companions for r in c.reaches))
            if not reach.is_local
        ],
        api_server=any((args["rules"], *(c.rules for c in companions))),
        network=cluster_network(),
    )
    writable = writable_folders(
        {folder: {"size_limit": args["writable_size"]} for folder in args["writable"]}
    )
    taken = {str(m["mount_path"]): "a writable one" for m in writable.mounts}
    taken |= {str(m["mount_path"]): "the storage" for m in extra.mounts}
    files = file_set(where, "files", args["files"], taken)
    taken |= {posixpath.dirname(path): "those of files" for path in files.contents}
    secret_files = file_set(where, "secret_files", args["secret_files"], taken)
    plan = PodPlan(
        where=where,
        name=name,
        args=args,
        hosting=hosting,
        selector=selector,
        listeners=tuple(listeners),
        probes=probes or {},
        settings=settings,
        extra=extra,
        files=files,
        secret_files=secret_files,
        writable=writable,
        connections=connections,
        rank=rank,
    )
    # Raises errors of the pod here, before the first resource is registered.
    plan.template()
    return plan


@dataclass(frozen=True)
class PodResources:
    """The objects that every workload has."""

    template: PodTemplateSpecArgsDict
    service_account: ServiceAccount
    dependencies: tuple[pulumi.Resource, ...]
    """Dependencies of the pods."""


def make_pod_resources(plan: PodPlan, parent: pulumi.Resource) -> PodResources:
    """Register the ConfigMap, Secret, ServiceAccount, Role and NetworkPolicies of a workload."""
    opts = pulumi.ResourceOptions(parent=parent)
    account = ServiceAccount(
        plan.name,
        metadata=plan.metadata(),
        automount_service_account_token=False,
        opts=opts,
    )
    names: dict[str, pulumi.Input[str]] = {"service_account": account.metadata["name"]}
    for files in (plan.files, plan.secret_files):
        if files.contents:
            name = f"{plan.name}-{files.kind.replace('_', '-')}"
            names[files.kind] = files.register(name, plan.metadata(), opts).metadata["name"]
    companions = plan.companions
    policies = plan.connections.register(
        plan.name,
        metadata=plan.metadata(),
        namespace=account.metadata["namespace"],
        selector=plan.selector,
        opts=opts,
    )
    rules = [*plan.args["rules"], *(rule for c in companions for rule in c.rules)]
    allowed = permissions(plan.name, plan.metadata(), rules, account, opts)
    return PodResources(
        template=plan.template(**names),
        service_account=account,
        # The policies come first: otherwise the pods would run without them for a moment.
        dependencies=(
            *policies,
            *allowed,
            *(r for c in companions for r in c.depends_on),
            *plan.connections.depends_on(),
        ),
    )
