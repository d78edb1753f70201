"""Adapter: a program's statistics become metrics that Prometheus scrapes (chapter 4).

One shape for all: a companion that listens where it is scraped, lets in who scrapes and nobody
else, and stays up when the program is down, so that ``<kind>_up 0`` can be told from silence. Its
probes never ask the program: a redis that is gone is the redis' readiness, not the exporter's.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap, ContainerArgsDict, VolumeArgsDict
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.arguments import (
    Default,
    DefaultsTo,
    InputError,
    Later,
    between,
    one_of,
    resolved,
)
from components.arguments.addresses import UnprivilegedPort
from components.arguments.images import Image
from components.arguments.names import check_name
from components.arguments.place import Place
from components.platform.generated import RotationArgs, check_rotation, rotated
from components.pods.companion import Companion, Listener
from components.pods.hosting import CompanionHosting
from components.pods.probes import asked
from components.single_node import configured, scraped
from components.single_node.metric_kinds import KINDS, MetricKind
from components.values.metrics import Alert, Dashboard, ScrapeJob
from components.values.names import child
from components.values.peers import Clients
from components.values.reach import ONE_ENDPOINT, Reach, speaking
from components.values.redis_user import RedisUser

_SECRETS = "/etc/redis-exporter"
_PASSWORDS = "passwords.json"
# All that the exporter's scrape runs; CONFIG, which can show secrets, is left out.
_RULES = ("+ping", "+info", "+slowlog|len", "+slowlog|get", "+latency|latest", "+latency|histogram")


_REDIS = KINDS["redis"]
_OWN_KINDS = tuple(kind for kind in KINDS if kind != "redis")


class ExporterArgs(TypedDict):
    """Arguments that all exporters share."""

    image: Later[Image]
    """Image of the exporter."""
    deadline_seconds: NotRequired[Annotated[float, between(0.1, 60), Default(3)]]
    """Seconds that the program has to answer; then it is down. Must be shorter than the scraper's
    own patience."""
    metrics_clients: NotRequired[Clients]
    """Who may scrape, beside a Prometheus that has the ``job``; ``{}`` is every pod of the
    namespace."""
    hosting: NotRequired[Annotated[CompanionHosting, Default({})]]
    """Namespace, labels and resources."""


class RedisExporterArgs(ExporterArgs):
    """Arguments of RedisExporter. The image starts prometheus-redis-exporter, as Debian calls it, or
    the upstream redis_exporter (oliver006/redis_exporter).
    """

    server: NotRequired[
        Annotated[Reach, speaking("redis"), ONE_ENDPOINT, DefaultsTo("127.0.0.1:6379")]
    ]
    """The Redis."""
    port: NotRequired[Annotated[UnprivilegedPort, Default(_REDIS.port)]]
    """Port to be scraped at."""
    auth: NotRequired[Annotated[bool, Default(True)]]
    """Whether it logs in as a user of its own, ``user``, which the store must be given. Without,
    the server's default user must be allowed INFO."""
    rotation: NotRequired[Annotated[RotationArgs, Default({})]]
    """When its password is replaced."""


class MetricsExporterArgs(ExporterArgs):
    """Arguments of MetricsExporter. The image is the project's ``companions``."""

    kind: Annotated[str, one_of(*_OWN_KINDS)]
    """The program."""
    server: NotRequired[
        Annotated[
            Reach,
            ONE_ENDPOINT,
            DefaultsTo("the program's usual port on 127.0.0.1, for nginx with /stub_status"),
        ]
    ]
    """The program; of nginx its path is that of stub_status."""
    port: NotRequired[Annotated[UnprivilegedPort, DefaultsTo("the customary one of the kind")]]
    """Port to be scraped at."""


class RedisExporter(pulumi.ComponentResource):
    """Metrics of a Redis, by the known exporter, with a password from a file.

    Registers a headless Service by which Prometheus finds every pod that has the companion, a
    dashboard (a ConfigMap with Grafana's label), and with ``auth`` a password. ``companion`` goes to
    the store's ``companions``, ``user`` to its ``users``.
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

        :param name: a DNS label of at most 50 characters, the first a letter; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'RedisExporter "{name}"'
        check_name(where, name, reserve=scraped.RESERVE, service=True)
        args = resolved(where, RedisExporterArgs, args)
        check_rotation(where, args["rotation"], generated=args["auth"])
        if args["auth"]:
            scraped.check_user(where, name, _RULES)
        plan = _Plan(name, _REDIS, args.get("server", _REDIS.server), args["port"], args)
        super().__init__("dds:index:RedisExporter", name, {"image": args["image"]}, opts)
        own = pulumi.ResourceOptions(parent=self)
        address = pulumi.Output.concat("redis://", plan.server.endpoint)
        # The image says what it is called: it differs between Debian's and the upstream one.
        flags: list[pulumi.Input[str]] = [
            *("-redis.addr", address),
            *("-web.listen-address", f":{plan.port}"),
            # It would run CONFIG GET, which can show secrets, and CLIENT SETNAME.
            *("-config-command", "-"),
            "-set-client-name=false",
            *("-connection-timeout", f"{args['deadline_seconds']:g}s"),
        ]
        self.user = None
        volumes: tuple[VolumeArgsDict, ...] = ()
        container: ContainerArgsDict = {"name": name, "image": args["image"]}
        depends_on: list[pulumi.Resource] = []
        if args["auth"]:
            password = rotated(f"{name}-password", args["rotation"], own)
            self.user = RedisUser(name, _RULES, password.value, password.former)
            # Newer ones look for the address with the user, this one without.
            passwords = pulumi.Output.all(plan.server.endpoint, password.value).apply(
                lambda known: json.dumps(
                    {f"redis://{user}{known[0]}": known[1] for user in ("", f"{name}@")}
                )
            )
            kept = configured.kept(
                name, _SECRETS, {_PASSWORDS: passwords}, metadata=plan.metadata, opts=own
            )
            volumes = (kept.volume,)
            container["volume_mounts"] = [kept.mount]
            flags += ["-redis.user", name, "-redis.password-file", f"{_SECRETS}/{_PASSWORDS}"]
            depends_on.append(kept.secret)
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

        :param name: a DNS label of at most 50 characters, the first a letter; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'MetricsExporter "{name}"'
        check_name(where, name, reserve=scraped.RESERVE, service=True)
        args = resolved(where, MetricsExporterArgs, args)
        kind = KINDS[args["kind"]]
        plan = _Plan(name, kind, args.get("server", kind.server), args.get("port", kind.port), args)
        speaking(kind.server.app_protocol).check(Place(where, "server"), plan.server)
        if plan.server.path[:1] != kind.server.path[:1]:
            expected = "like /stub_status" if kind.server.path else f"left out for {kind.name}"
            raise InputError(where, "server.path", plan.server.path, f"must be {expected}")
        super().__init__(
            "dds:index:MetricsExporter", name, {"image": args["image"], "kind": kind.name}, opts
        )
        own = pulumi.ResourceOptions(parent=self)
        self.companion = plan.companion(
            {
                "name": name,
                "image": args["image"],
                "command": [
                    *("python3", "-m", "companions.statistics"),
                    *("--kind", kind.name),
                    *("--target", pulumi.Output.concat(plan.server.endpoint, plan.server.path)),
                    *("--port", str(plan.port)),
                    *("--deadline", f"{args['deadline_seconds']:g}"),
                ],
            }
        )
        self.job, self.alerts, self.dashboard = plan.register(own)
        self.register_outputs({"dashboard": self.dashboard})


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What all kinds have in common."""

    name: str
    kind: MetricKind
    server: Reach
    port: int
    args: ExporterArgs

    @property
    def metadata(self) -> ObjectMetaArgsDict:
        return configured.metadata(
            f"{self.kind.name}-exporter", self.name, "adapter", self.args["hosting"]
        )

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
            "resources": self.args["hosting"]["resources"],
        }
        return Companion(
            name=self.name,
            containers=(complete,),
            listeners=(
                Listener(
                    self.port,
                    f"{self.kind.name}-metrics"[:15].rstrip("-"),
                    clients=tuple(self.args["metrics_clients"]),
                ),
            ),
            volumes=volumes,
            pod_labels=scraped.labels(self.name),
            reaches=(self.server,),
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
