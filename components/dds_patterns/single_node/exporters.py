"""Adapter: a program's statistics become metrics that Prometheus scrapes (chapter 4).

Every exporter is a companion that admits only its scrapers and stays up when the program is down,
so that ``<kind>_up 0`` differs from a failed scrape. Its probes do not depend on the program: a
Redis that is down is itself unready, its exporter is not.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap

from dds_patterns.arguments import Default, DefaultsTo, InputError, Later, between, one_of, resolved
from dds_patterns.arguments.addresses import UnprivilegedPort
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import check_name
from dds_patterns.arguments.place import Place
from dds_patterns.platform.generated import RotationArgs, check_rotation, rotated
from dds_patterns.pods.images import image_of
from dds_patterns.single_node.metric_kinds import KINDS, REDIS, MetricKind
from dds_patterns.single_node.scraped import Scraped
from dds_patterns.values.metrics import Dashboard
from dds_patterns.values.names import child
from dds_patterns.values.reach import ONE_ENDPOINT, Reach, speaking
from dds_patterns.values.redis_user import RedisUser, check_user
from dds_patterns.workloads.program import RESERVE, Program, ScrapedArgs

_PASSWORDS = "/etc/redis-exporter/passwords.json"
# The commands of a scrape, without CONFIG, which can show secrets.
_RULES = ("+ping", "+info", "+slowlog|len", "+slowlog|get", "+latency|latest", "+latency|histogram")
_OWN_KINDS = tuple(kind for kind in KINDS if kind != "redis")


class ExporterArgs(ScrapedArgs):
    """Arguments that all exporters share."""

    deadline_seconds: NotRequired[Annotated[float, between(0.1, 60), Default(3)]]
    """Timeout of the program's response, in seconds; after it the program counts as down. Must be
    shorter than the scrape timeout."""


class RedisExporterArgs(ExporterArgs):
    """Arguments of RedisExporter."""

    image: NotRequired[Annotated[Later[Image], image_of("redis-exporter")]]
    """Image of Debian's prometheus-redis-exporter, or the upstream oliver006/redis_exporter."""
    server: NotRequired[
        Annotated[Reach, speaking("redis"), ONE_ENDPOINT, DefaultsTo("127.0.0.1:6379")]
    ]
    """The Redis."""
    port: NotRequired[Annotated[UnprivilegedPort, Default(REDIS.port)]]
    """Port that is scraped."""
    auth: NotRequired[Annotated[bool, Default(True)]]
    """Whether it authenticates as its own ``user``, which the store must be given. Without it, the
    server's default user must be allowed INFO."""
    rotation: NotRequired[Annotated[RotationArgs, Default({})]]
    """Rotation of its password."""


class MetricsExporterArgs(ExporterArgs):
    """Arguments of MetricsExporter."""

    image: NotRequired[Annotated[Later[Image], image_of("companions")]]
    """The project's image ``companions``."""
    kind: Annotated[str, one_of(*_OWN_KINDS)]
    """The program."""
    server: NotRequired[
        Annotated[
            Reach,
            ONE_ENDPOINT,
            DefaultsTo("the program's usual port on 127.0.0.1, for nginx with /stub_status"),
        ]
    ]
    """The program; for nginx, with the path of stub_status."""
    port: NotRequired[Annotated[UnprivilegedPort, DefaultsTo("the usual one of the kind")]]
    """Port that is scraped."""


class _Exporter(Scraped):
    """Base of both exporters."""

    dashboard: str
    """A dashboard for Grafana, JSON."""

    def _export(self, kind: MetricKind, program: Program, opts: pulumi.ResourceOptions) -> None:
        """Register what the program needs, and the dashboard."""
        self._run(program, kind.alerts, opts)
        name, metadata = program.name, program.metadata
        panels = [panel.of(name) for panel in kind.panels]
        self.dashboard = Dashboard(f"{kind.title}: {name}", panels).json()
        labels: Mapping[str, Any] = metadata["labels"]
        ConfigMap(
            child(name, "dashboard"),
            # The label by which the sidecar of Grafana's chart finds dashboards.
            metadata={**metadata, "labels": {**labels, "grafana_dashboard": "1"}},
            data={f"{name}.json": self.dashboard},
            immutable=True,
            opts=opts,
        )


class RedisExporter(_Exporter, pulumi.ComponentResource):
    """Metrics of a Redis, by redis_exporter, which reads its password from a file.

    Registers a headless Service by which Prometheus finds every pod that has the companion, a
    dashboard (a ConfigMap with Grafana's label), and with ``auth`` a password. ``companion`` goes to
    the store's ``companions``, ``user`` to its ``users``.
    """

    user: RedisUser | None
    """The user that the store must be given; None without ``auth``."""

    def __init__(
        self, name: str, args: RedisExporterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the exporter.

        :param name: a DNS label of at most 50 characters, the first a letter; names the container
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'RedisExporter "{name}"'
        check_name(where, name, reserve=RESERVE, service=True)
        args = resolved(where, RedisExporterArgs, args)
        check_rotation(where, args["rotation"], generated=args["auth"])
        if args["auth"]:
            check_user(where, name, _RULES)
        super().__init__("dds:index:RedisExporter", name, {"image": args["image"]}, opts)
        own = pulumi.ResourceOptions(parent=self)
        server, port = args.get("server", REDIS.server), args["port"]
        address = pulumi.Output.concat("redis://", server.endpoint)
        # The image's entrypoint names the program: Debian's and upstream's names differ.
        flags: list[pulumi.Input[str]] = [
            *("-redis.addr", address),
            *("-web.listen-address", f":{port}"),
            # It would run CONFIG GET, which can show secrets, and CLIENT SETNAME.
            *("-config-command", "-"),
            "-set-client-name=false",
            *("-connection-timeout", f"{args['deadline_seconds']:g}s"),
        ]
        self.user = None
        secret_files = {}
        if args["auth"]:
            password = rotated(f"{name}-password", args["rotation"], own)
            self.user = RedisUser(name, _RULES, password.value, password.former)
            # Newer versions look up the address with the user, this one without.
            secret_files[_PASSWORDS] = pulumi.Output.all(server.endpoint, password.value).apply(
                lambda known: json.dumps(
                    {f"redis://{user}{known[0]}": known[1] for user in ("", f"{name}@")}
                )
            )
            flags += ["-redis.user", name, "-redis.password-file", _PASSWORDS]
        program = dataclasses.replace(
            _program(where, name, REDIS, args, server, port), args=flags, secret_files=secret_files
        )
        self._export(REDIS, program, own)
        self.register_outputs({"dashboard": self.dashboard})


class MetricsExporter(_Exporter, pulumi.ComponentResource):
    """Metrics of a memcached, an nginx or a twemproxy, by the project's own exporter.

    Debian's exporter for nginx exits if nginx does not listen yet, but a companion starts before
    it; Debian has none for the others. Registers a headless Service by which Prometheus finds every
    pod that has the companion, and a dashboard. The exporter of twemproxy must follow the
    ambassador in ``companions``.
    """

    def __init__(
        self, name: str, args: MetricsExporterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the exporter.

        :param name: a DNS label of at most 50 characters, the first a letter; names the container
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'MetricsExporter "{name}"'
        check_name(where, name, reserve=RESERVE, service=True)
        args = resolved(where, MetricsExporterArgs, args)
        kind = KINDS[args["kind"]]
        server, port = args.get("server", kind.server), args.get("port", kind.port)
        speaking(kind.server.app_protocol).check(Place(where, "server"), server)
        if server.path[:1] != kind.server.path[:1]:
            expected = "like /stub_status" if kind.server.path else f"left out for {kind.name}"
            raise InputError(where, "server.path", server.path, f"must be {expected}")
        super().__init__(
            "dds:index:MetricsExporter", name, {"image": args["image"], "kind": kind.name}, opts
        )
        program = dataclasses.replace(
            _program(where, name, kind, args, server, port),
            command=[
                *("python3", "-m", "companions.statistics"),
                *("--kind", kind.name),
                *("--target", pulumi.Output.concat(server.endpoint, server.path)),
                *("--port", str(port)),
                *("--deadline", f"{args['deadline_seconds']:g}"),
            ],
        )
        self._export(kind, program, pulumi.ResourceOptions(parent=self))
        self.register_outputs({"dashboard": self.dashboard})


def _program(
    where: str,
    name: str,
    kind: MetricKind,
    args: RedisExporterArgs | MetricsExporterArgs,
    server: Reach,
    port: int,
) -> Program:
    """What all kinds have in common."""
    listener = f"{kind.name}-metrics"[:15].rstrip("-")
    return Program(
        where,
        name,
        application=f"{kind.name}-exporter",
        part="adapter",
        image=args["image"],
        hosting=args["hosting"],
        metrics={"name": listener, "port": port, "clients": args["metrics_clients"]},
        # No readiness probe: a failing exporter must not make the pod unready.
        liveness={"path": "/health"},
        reaches=(server,),
    )
