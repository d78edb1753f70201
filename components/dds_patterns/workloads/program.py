"""A program with generated configuration, such as a proxy: as a companion or as a workload.

Files, image, ports and probes are declared once. As a companion it has its own ConfigMap and Secret,
and a headless Service for Prometheus; as a workload, it is an Application.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired, TypedDict, cast

import pulumi
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    EmptyDirVolumeSourceArgsDict,
    Service,
    VolumeArgsDict,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from dds_patterns.arguments import Default, resolved
from dds_patterns.arguments.plain import filled
from dds_patterns.pods import labels as pod_labels
from dds_patterns.pods.companion import Companion, Listener, Rule
from dds_patterns.pods.hosting import CompanionHosting, object_metadata
from dds_patterns.pods.probes import ProbeArgs, as_probe
from dds_patterns.values.metrics import ScrapeJob
from dds_patterns.values.peers import Clients
from dds_patterns.values.reach import Reach
from dds_patterns.workloads.application import ApplicationArgs
from dds_patterns.workloads.arguments import PortArgs
from dds_patterns.workloads.files import NOTHING_MOUNTED, Mounted, file_set, writable_folders
from dds_patterns.workloads.service_reach import service_reach
from dds_patterns.workloads.serving import listeners_of

SCRAPED = "dds/metrics-of-"
"""Prefix of the label of pods with a companion that Prometheus scrapes; the companion's name ends it."""
RESERVE = 13
"""Characters that the label adds to a companion's name."""
TEMPORARY: Mapping[str, EmptyDirVolumeSourceArgsDict] = {"/tmp": {"size_limit": "16Mi"}}  # noqa: S108
"""The folder that most programs write to."""


class ProgramArgs(TypedDict):
    """Arguments of every companion."""

    hosting: NotRequired[Annotated[CompanionHosting, Default({})]]
    """Namespace, labels and resources."""


class ScrapedArgs(ProgramArgs):
    """Arguments of every companion that Prometheus scrapes."""

    metrics_clients: NotRequired[Clients]
    """Clients that may scrape, besides a Prometheus that has the ``job``; ``{}`` is every pod of the
    namespace."""


@dataclass(frozen=True)
class Program:
    """One container, with its files, ports and connections."""

    where: str
    """The component, in messages."""
    name: str
    """Name of the container and of its objects."""
    application: str
    """The program, for example ``nginx``."""
    part: str
    """``sidecar``, ``ambassador``, ``adapter``, or its role as a workload."""
    image: pulumi.Input[str]
    hosting: CompanionHosting
    """As it was resolved."""
    liveness: ProbeArgs
    ports: Sequence[PortArgs] = ()
    metrics: PortArgs | None = None
    """One more port, which Prometheus scrapes."""
    readiness: ProbeArgs | None = None
    """None if the pod's readiness does not depend on this program."""
    startup: ProbeArgs | None = None
    """By default readiness, or else liveness, with a shorter period."""
    command: Sequence[pulumi.Input[str]] = ()
    args: Sequence[pulumi.Input[str]] = ()
    files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Absolute path to content. Changed content triggers a rollout."""
    secret_files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """The same for secrets."""
    writable: Mapping[str, EmptyDirVolumeSourceArgsDict] = field(default_factory=dict)
    """Writable folders, by their absolute paths."""
    mounted: Mounted = NOTHING_MOUNTED
    """More volumes, such as one shared with the application, or a Secret that it reloads."""
    reloading: tuple[str, ...] = ()
    """Names of those volumes whose files are replaced while the pod runs."""
    before_stop: Sequence[str] = ()
    """Command of the preStop hook."""
    reaches: tuple[Reach, ...] = ()
    rules: tuple[Rule, ...] = ()
    share_process_namespace: bool = False
    container: str = ""
    """Name of the container, if it is not ``name``."""
    depends_on: tuple[pulumi.Resource, ...] = ()
    """Dependencies of its pods."""

    @property
    def metadata(self) -> ObjectMetaArgsDict:
        """Metadata of its own objects; auto-naming adds the name."""
        return object_metadata(
            pod_labels.selector(self.application, self.name, self.part), self.hosting
        )

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the pods in which it is scraped."""
        return {f"{SCRAPED}{self.name}": "true"} if self.metrics else {}

    def companion(self, opts: pulumi.ResourceOptions) -> Companion:
        """Register its files, and return what a workload takes in ``companions``."""
        mounted, depends_on = [self._written(), self.mounted], [*self.depends_on]
        sets = [
            file_set(self.where, kind, contents, {})
            for kind, contents in (("files", self.files), ("secret_files", self.secret_files))
        ]
        for files in sets:
            if files.contents:
                made = files.register(self.name, self.metadata, opts)
                mounted.append(files.mounted(made.metadata["name"], self.name))
                depends_on.append(made)
        listeners = listeners_of(
            self.where, [resolved(self.where, PortArgs, port) for port in self._all_ports()]
        )
        hook = {"pre_stop": {"exec_": {"command": list(self.before_stop)}}}
        container = filled(
            {
                "name": self.container or self.name,
                "image": self.image,
                "resources": self.hosting["resources"],
                **self._probes(listeners),
                "command": list(self.command),
                "args": list(self.args),
                "volume_mounts": [mount for each in mounted for mount in each.mounts],
                "lifecycle": hook if self.before_stop else None,
            }
        )
        return Companion(
            name=self.name,
            containers=(cast(ContainerArgsDict, container),),
            listeners=tuple(listeners),
            volumes=tuple(volume for each in mounted for volume in each.volumes),
            reloading=self.reloading,
            pod_labels=self.labels,
            reaches=self.reaches,
            share_process_namespace=self.share_process_namespace,
            rules=self.rules,
            depends_on=tuple(depends_on),
        )

    def job(self, opts: pulumi.ResourceOptions) -> ScrapeJob:
        """Register the headless Service whose name resolves to every pod with the companion."""
        port = cast(PortArgs, self.metrics)["port"]
        service = Service(
            self.name,
            metadata=self.metadata,
            spec={
                "cluster_ip": "None",
                "selector": self.labels,
                "ports": [{"name": "metrics", "port": port, "target_port": port}],
                # The metrics of a pod that is not ready are needed most.
                "publish_not_ready_addresses": True,
            },
            opts=opts,
        )
        return ScrapeJob(
            self.name,
            service_reach(self.name, [service], port, pods=self.labels, app_protocol="http"),
        )

    def workload(self) -> ApplicationArgs:
        """Its arguments as an Application.

        :raises ValueError: for what only a companion has
        """
        if self.before_stop or self.reloading or self.share_process_namespace:
            raise ValueError(f"{self.name}: a workload has no preStop hook, reloads and signals")
        written = self._written()
        volumes: list[VolumeArgsDict] = [*written.volumes, *self.mounted.volumes]
        args: dict[str, Any] = {
            "image": self.image,
            "application": self.application,
            "component": self.part,
            "ports": self._all_ports(),
            "files": self.files,
            "secret_files": self.secret_files,
            "volumes": volumes,
            "volume_mounts": [*written.mounts, *self.mounted.mounts],
            "reaches": self.reaches,
            "rules": self.rules,
            "liveness": self.liveness,
            "readiness": self.readiness,
            "startup": self.startup,
            "command": self.command or None,
            "args": self.args or None,
        }
        # None is "left out".
        return cast(ApplicationArgs, args)

    def _written(self) -> Mounted:
        return writable_folders(self.writable, self.name)

    def _all_ports(self) -> list[PortArgs]:
        return [*self.ports, self.metrics] if self.metrics else [*self.ports]

    def _probes(self, listeners: Sequence[Listener]) -> dict[str, Any]:
        questions = {
            "startup": self.startup or self.readiness or self.liveness,
            "readiness": self.readiness,
            "liveness": self.liveness,
        }
        return {
            f"{kind}_probe": as_probe(kind, question, listeners)
            for kind, question in questions.items()
            if question is not None
        }
