"""Adapter: a program's statistics become metrics that Prometheus scrapes (chapter 4).

One shape for all: a companion that listens where it is scraped, lets in who scrapes and nobody
else, and stays up when the program is down, so that ``<kind>_up 0`` can be told from silence. Its
probes never ask the program: a redis that is gone is the redis' readiness, not the exporter's.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import (
    ConfigMap,
    ContainerArgsDict,
    ResourceRequirementsArgsDict,
    Secret,
    VolumeArgsDict,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.arguments.errors import InputError
from components.platform.generated import Password
from components.pods import labels as pod_labels
from components.pods.companion import Companion, Listener
from components.pods.probes import asked
from components.single_node import scraped
from components.single_node.metric_kinds import KINDS, MetricKind
from components.values import checks
from components.values.edges import Edge
from components.values.metrics import Alert, Dashboard, ScrapeJob
from components.values.names import child
from components.values.redis_user import RedisUser

_PORTS = (1024, 65535)
_SECRETS = "/etc/redis-exporter"
_PASSWORDS = "passwords.json"
# All that the exporter's scrape runs; CONFIG, which can show secrets, is left out.
_RULES = ("+ping", "+info", "+slowlog|len", "+slowlog|get", "+latency|latest", "+latency|histogram")


class ExporterArgs(TypedDict):
    """Arguments that all exporters share."""

    image: pulumi.Input[str]
    """Image of the exporter, with a tag or digest."""
    target: NotRequired[str]
    """Where the program listens, ``host:port``; for nginx with the path of its stub_status.
    Defaults to the program's usual port on 127.0.0.1."""
    port: NotRequired[int]
    """Port to be scraped at, from 1024. Defaults to the one that is customary for the kind."""
    deadline_seconds: NotRequired[float]
    """Seconds that the program has to answer, from 0.1 to 60; then it is down. Must be shorter than
    the scraper's own patience. Defaults to 3."""
    scrapers: NotRequired[Sequence[Mapping[str, str]]]
    """Labels of pods that may scrape; an empty mapping is every pod. Defaults to those labelled
    ``dds/scrapes: "true"``, as Prometheus' are."""
    scraper_namespace: NotRequired[Mapping[str, str]]
    """Labels of the scrapers' namespace. Defaults to the pod's own."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits; what is left out keeps the default of every container."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace, the same as that of the pods. Defaults to the provider's."""


class RedisExporterArgs(ExporterArgs):
    """Arguments of RedisExporter. The image starts prometheus-redis-exporter, as Debian calls it, or
    the upstream redis_exporter (oliver006/redis_exporter).
    """

    auth: NotRequired[bool]
    """Whether it logs in as a user of its own, ``user``, which the store must be given. Defaults
    to yes. Without, the server's default user must be allowed INFO."""


class MetricsExporterArgs(ExporterArgs):
    """Arguments of MetricsExporter. The image is the project's ``companions``."""

    kind: str
    """``memcached``, ``nginx`` or ``twemproxy``."""


class RedisExporter(pulumi.ComponentResource):
    """Metrics of a Redis, by the known exporter, with a password from a file.

    Registers a headless Service by which Prometheus finds every pod that has the companion, a
    dashboard (a ConfigMap with Grafana's label), and with ``auth`` a password that is generated
    once. ``companion`` goes to the store's ``companions``, ``user`` to its ``users``.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    user: RedisUser | None
    """The user that the store must know; None without ``auth``."""
    job: ScrapeJob
    """What Prometheus scrapes."""
    alerts: tuple[Alert, ...]
    """Rules for Prometheus."""
    dashboard: str
    """A dashboard as Grafana's JSON."""

    def __init__(
        self, name: str, args: RedisExporterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the exporter.

        :param name: a DNS label of at most 50 characters; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'RedisExporter "{name}"'
        checks.known_arguments(where, RedisExporterArgs, args)
        plan = _checked(where, name, KINDS["redis"], args)
        super().__init__("dds:index:RedisExporter", name, {"image": args["image"]}, opts)
        own = pulumi.ResourceOptions(parent=self)
        address = f"redis://{plan.target}"
        # The image says what it is called: it differs between Debian's and the upstream one.
        flags = [
            *("-redis.addr", address),
            *("-web.listen-address", f":{plan.port}"),
            # It would run CONFIG GET, which can show secrets, and CLIENT SETNAME.
            *("-config-command", "-"),
            "-set-client-name=false",
            *("-connection-timeout", f"{plan.deadline:g}s"),
        ]
        self.user = None
        volumes: tuple[VolumeArgsDict, ...] = ()
        container: ContainerArgsDict = {"name": name, "image": args["image"]}
        depends_on: list[pulumi.Resource] = []
        if args.get("auth", True):
            password: pulumi.Output[str] = pulumi.Output.secret(
                Password(f"{name}-password", {}, own).value
            )
            self.user = RedisUser(name, _RULES, password)
            secret = Secret(
                name,
                metadata=plan.metadata,
                type="Opaque",
                string_data={
                    # Newer ones look for the address with the user, this one without.
                    _PASSWORDS: password.apply(
                        lambda value: json.dumps(
                            {address: value, f"redis://{name}@{plan.target}": value}
                        )
                    )
                },
                immutable=True,
                opts=own,
            )
            volume = child(name, "passwords", limit=63)
            volumes = (
                {
                    "name": volume,
                    "secret": {"secret_name": secret.metadata["name"], "default_mode": 0o440},
                },
            )
            container["volume_mounts"] = [
                {"name": volume, "mount_path": _SECRETS, "read_only": True}
            ]
            flags += ["-redis.user", name, "-redis.password-file", f"{_SECRETS}/{_PASSWORDS}"]
            depends_on.append(secret)
        container["args"] = flags
        self.companion = plan.companion(container, volumes, depends_on)
        self.job, self.alerts, self.dashboard = plan.register(own)
        self.register_outputs({"dashboard": self.dashboard})


class MetricsExporter(pulumi.ComponentResource):
    """Metrics of a memcached, an nginx or a twemproxy, by the project's own exporter.

    The exporter that Debian has for nginx ends where nginx does not listen yet, which a companion
    that starts before it can never outlive; for the others there is none. Registers a headless
    Service by which Prometheus finds every pod that has the companion, and a dashboard.
    """

    companion: Companion
    """What a workload takes in ``companions``. For twemproxy after the ambassador."""
    job: ScrapeJob
    """What Prometheus scrapes."""
    alerts: tuple[Alert, ...]
    """Rules for Prometheus."""
    dashboard: str
    """A dashboard as Grafana's JSON."""

    def __init__(
        self, name: str, args: MetricsExporterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the exporter.

        :param name: a DNS label of at most 50 characters; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'MetricsExporter "{name}"'
        checks.known_arguments(where, MetricsExporterArgs, args)
        own_kinds = tuple(kind for kind in KINDS if kind != "redis")
        kind = checks.one_of(where, "kind", args["kind"], own_kinds)
        plan = _checked(where, name, KINDS[kind], args)
        super().__init__(
            "dds:index:MetricsExporter", name, {"image": args["image"], "kind": kind}, opts
        )
        own = pulumi.ResourceOptions(parent=self)
        self.companion = plan.companion(
            {
                "name": name,
                "image": args["image"],
                "command": [
                    *("python3", "-m", "companions.statistics"),
                    *("--kind", kind),
                    *("--target", plan.target),
                    *("--port", str(plan.port)),
                    *("--deadline", f"{plan.deadline:g}"),
                ],
            }
        )
        self.job, self.alerts, self.dashboard = plan.register(own)
        self.register_outputs({"dashboard": self.dashboard})


@dataclasses.dataclass(frozen=True)
class _Plan:
    """An exporter, checked: what all kinds have in common."""

    name: str
    kind: MetricKind
    target: str
    port: int
    deadline: float
    ingress: tuple[Edge, ...]
    resources: ResourceRequirementsArgsDict | None
    metadata: ObjectMetaArgsDict

    def companion(
        self,
        container: ContainerArgsDict,
        volumes: tuple[VolumeArgsDict, ...] = (),
        depends_on: Sequence[pulumi.Resource] = (),
    ) -> Companion:
        complete: ContainerArgsDict = {
            **container,
            "startup_probe": asked("/health", self.port, 1, 60),
            # There is no readiness probe: who cannot be watched for a moment still serves.
            "liveness_probe": asked("/health", self.port, 10, 6),
        }
        if self.resources is not None:
            complete["resources"] = self.resources
        return Companion(
            name=self.name,
            containers=(complete,),
            listeners=(Listener(self.port, f"{self.kind.name}-metrics"[:15].rstrip("-")),),
            volumes=volumes,
            pod_labels=scraped.labels(self.name),
            ingress=self.ingress,
            depends_on=tuple(depends_on),
        )

    def register(self, opts: pulumi.ResourceOptions) -> tuple[ScrapeJob, tuple[Alert, ...], str]:
        """The Service by which the pods are found, and the dashboard."""
        job = scraped.job(self.name, self.port, self.metadata, opts)
        alerts = self.kind.alerts(self.name)
        dashboard = Dashboard(f"{self.kind.title}: {self.name}", self.kind.panels(self.name)).json()
        labels: Mapping[str, Any] = self.metadata["labels"]
        ConfigMap(
            child(self.name, "dashboard"),
            # The label by which the sidecar of Grafana's chart finds dashboards.
            metadata={**self.metadata, "labels": {**labels, "grafana_dashboard": "1"}},
            data={f"{self.name}.json": dashboard},
            immutable=True,
            opts=opts,
        )
        return job, alerts, dashboard


def _checked(where: str, name: str, kind: MetricKind, args: ExporterArgs) -> _Plan:
    checks.dns_label(where, "name", name, reserve=scraped.RESERVE)
    checks.image_reference(where, "image", args["image"])
    target = args.get("target", kind.target)
    address, slash, _ = target.partition("/")
    host, _, number = address.rpartition(":")
    if not host or not number.isdigit() or bool(slash) != ("/" in kind.target):
        raise InputError(where, "target", target, f"must have the form {kind.target}")
    checks.port(where, "target", int(number))
    port: int = args.get("port", kind.port)
    checks.integer(where, "port", port, minimum=_PORTS[0], maximum=_PORTS[1])
    ingress = scraped.edges(
        where,
        port,
        args.get("scrapers", scraped.DEFAULT_SCRAPERS),
        args.get("scraper_namespace"),
    )
    selector = pod_labels.selector(f"{kind.name}-exporter", name, "adapter")
    metadata: ObjectMetaArgsDict = {"labels": pod_labels.standard(selector, None)}
    if "namespace" in args:
        metadata["namespace"] = args["namespace"]
    return _Plan(
        name=name,
        kind=kind,
        target=target,
        port=port,
        deadline=checks.number(
            where, "deadline_seconds", args.get("deadline_seconds", 3.0), minimum=0.1, maximum=60
        ),
        ingress=ingress,
        resources=args.get("resources"),
        metadata=metadata,
    )
