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
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from components.arguments.errors import InputError
from components.pods import labels as pod_labels
from components.pods.account import token, with_token
from components.pods.companion import Companion, Listener
from components.pods.hardening import DEFAULT_USER
from components.pods.template import pod_template
from components.values import checks
from components.values.edges import API_SERVER, Edge
from components.workloads.arguments import PodArgs, PreparationArgs
from components.workloads.files import (
    NOTHING_MOUNTED,
    FileSet,
    Mounted,
    file_set,
    writable_folders,
)
from components.workloads.network import network_policy
from components.workloads.permissions import permissions

# Names that stand for the real ones while the arguments are checked.
_UNNAMED = "unnamed"


@dataclass(frozen=True)
class PodPlan:
    """A workload's pod, checked before any resource is registered."""

    where: str
    name: str
    args: PodArgs
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

    @property
    def companions(self) -> tuple[Companion, ...]:
        """The companions, in order."""
        return tuple(self.args.get("companions", ()))

    def metadata(self) -> ObjectMetaArgsDict:
        """Metadata of every object of the workload; auto-naming adds the name."""
        metadata: ObjectMetaArgsDict = {
            "labels": pod_labels.standard(self.selector, self.args.get("version"))
        }
        if "namespace" in self.args:
            metadata["namespace"] = self.args["namespace"]
        return metadata

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
        volumes += self.args.get("volumes", ())
        mounts: list[VolumeMountArgsDict] = [v for m in mounted for v in m.mounts]
        mounts += self.args.get("volume_mounts", ())
        own = mounts
        if self.args.get("rules"):
            volume, mount = token(self.name)
            volumes.append(volume)
            own = [*mounts, mount]
        return pod_template(
            self.where,
            [self._container(own)],
            self.companions,
            preparations=[
                self._preparation(position, preparation, mounts)
                for position, preparation in enumerate(self.args.get("preparations", ()))
            ],
            listeners=self.listeners,
            labels={
                **pod_labels.standard(self.selector, self.args.get("version")),
                **self.args.get("labels", {}),
            },
            annotations=self.args.get("annotations", {}),
            volumes=volumes,
            service_account=service_account,
            user=self.args.get("user", DEFAULT_USER),
            group=self.args.get("group"),
            grace_seconds=self.args.get("grace_seconds", 30),
            selector=self.selector,
            node_selector=self.args.get("node_selector"),
            exceptions=self.args.get("exceptions", ()),
            **self.settings,
        )

    def _container(self, mounts: Sequence[VolumeMountArgsDict]) -> ContainerArgsDict:
        where, args = self.where, self.args
        container: dict[str, Any] = {
            "name": self.selector["app.kubernetes.io/name"],
            "image": args["image"],
            **self.probes,
        }
        if "command" in args:
            container["command"] = [checks.public(where, "command", v) for v in args["command"]]
        if "args" in args:
            container["args"] = [checks.public(where, "args", v) for v in args["args"]]
        if args.get("env"):
            container["env"] = [
                {"name": key, "value": checks.public(where, f"env[{key}]", value)}
                for key, value in args["env"].items()
            ]
        if self.listeners:
            container["ports"] = [
                {"name": p.name, "container_port": p.port, "protocol": p.protocol}
                for p in self.listeners
            ]
        if "resources" in args:
            container["resources"] = args["resources"]
        if mounts:
            container["volume_mounts"] = list(mounts)
        return cast(ContainerArgsDict, container)

    def _preparation(
        self, position: int, args: PreparationArgs, mounts: Sequence[VolumeMountArgsDict]
    ) -> ContainerArgsDict:
        where, argument = self.where, f"preparations[{position}]"
        checks.known_arguments(f"{where}: {argument}", PreparationArgs, args)
        container: dict[str, Any] = {
            "name": args["name"],
            "image": args.get("image", self.args["image"]),
            "command": [
                checks.public(where, f"{argument}.command", value) for value in args["command"]
            ],
        }
        if "resources" in args:
            container["resources"] = args["resources"]
        if mounts:
            container["volume_mounts"] = list(mounts)
        return cast(ContainerArgsDict, container)


def check_companions(where: str, companions: Sequence[object]) -> None:
    """Refuse what is no companion, and two of one name."""
    names = []
    for companion in companions:
        if not isinstance(companion, Companion):
            raise InputError(
                where, "companions", companion, "must be a Companion, most often x.companion"
            )
        names.append(companion.name)
    checks.unique(where, "companions", names)


def plan_pod(
    where: str,
    name: str,
    args: PodArgs,
    *,
    component: str,
    reserve: int,
    listeners: Sequence[Listener] = (),
    probes: Mapping[str, Any] | None = None,
    extra: Mounted = NOTHING_MOUNTED,
    **settings: Any,
) -> PodPlan:
    """Check everything that concerns the pod.

    :param component: default of the label app.kubernetes.io/component
    :param reserve: characters that the workload's own objects add to its name
    :param settings: more arguments for ``pod_template``
    """
    checks.dns_label(where, "name", name, reserve=reserve)
    check_companions(where, args.get("companions", ()))
    writable = writable_folders(where, args.get("writable", ()), args.get("writable_size", "64Mi"))
    taken = {str(m["mount_path"]): "a writable one" for m in writable.mounts}
    taken |= {str(m["mount_path"]): "the storage" for m in extra.mounts}
    files = file_set(where, "files", args.get("files", {}), taken)
    taken |= {posixpath.dirname(path): "those of files" for path in files.contents}
    secret_files = file_set(where, "secret_files", args.get("secret_files", {}), taken)
    plan = PodPlan(
        where=where,
        name=name,
        args=args,
        selector=pod_labels.selector(
            checks.dns_label(where, "application", args.get("application", name)),
            name,
            checks.dns_label(where, "component", args.get("component", component)),
        ),
        listeners=tuple(listeners),
        probes=probes or {},
        settings=settings,
        extra=extra,
        files=files,
        secret_files=secret_files,
        writable=writable,
    )
    # What is wrong with the pod shows here, before the first resource.
    plan.template()
    return plan


@dataclass(frozen=True)
class PodResources:
    """The objects that every workload has."""

    template: PodTemplateSpecArgsDict
    network_policy: NetworkPolicy
    service_account: ServiceAccount
    dependencies: tuple[pulumi.Resource, ...]
    """What must be there before the pods."""


def make_pod_resources(
    plan: PodPlan, parent: pulumi.Resource, ingress: Sequence[Edge] = ()
) -> PodResources:
    """Register the ConfigMap, Secret, ServiceAccount, Role and NetworkPolicy of a workload.

    :param ingress: edges that the workload adds to those of its arguments
    """
    opts = pulumi.ResourceOptions(parent=parent)
    account = ServiceAccount(
        plan.name,
        metadata=plan.metadata(),
        automount_service_account_token=False,
        opts=opts,
    )
    names: dict[str, pulumi.Input[str]] = {"service_account": account.metadata["name"]}
    if plan.files.contents:
        config_map = plan.files.config_map(f"{plan.name}-files", plan.metadata(), opts)
        names["files"] = config_map.metadata["name"]
    if plan.secret_files.contents:
        secret = plan.secret_files.secret(f"{plan.name}-secret-files", plan.metadata(), opts)
        names["secret_files"] = secret.metadata["name"]
    companions = plan.companions
    policy = network_policy(
        plan.name,
        metadata=plan.metadata(),
        selector=plan.selector,
        ingress=[
            *ingress,
            *plan.args.get("ingress", ()),
            *(edge for companion in companions for edge in companion.ingress),
        ],
        egress=[
            *plan.args.get("egress", ()),
            *([API_SERVER] if plan.args.get("rules") else []),
            *(edge for companion in companions for edge in with_token(companion).egress),
        ],
        opts=opts,
    )
    rules = [*plan.args.get("rules", ()), *(rule for c in companions for rule in c.rules)]
    allowed = permissions(plan.name, plan.metadata(), rules, account, opts)
    return PodResources(
        template=plan.template(**names),
        network_policy=policy,
        service_account=account,
        # The policy comes first, or the pods would run without it for a moment.
        dependencies=(policy, *allowed, *(r for c in companions for r in c.depends_on)),
    )
