"""Adapter: logs of several programs in one form, each entry once (chapter 4).

The book has Fluentd do this, with plugins that nobody maintains any more. Here the sources are read
by a small program of the project; ``fluentd`` has the same sources as a configuration for Fluentd,
for who runs one that has the plugins.
"""

import dataclasses
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import (
    ConfigMap,
    ContainerArgsDict,
    ResourceRequirementsArgsDict,
    Secret,
    VolumeArgsDict,
    VolumeMountArgsDict,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.arguments.errors import InputError
from components.platform.generated import Password
from components.pods import labels as pod_labels
from components.pods.companion import Companion, Listener
from components.pods.probes import asked
from components.single_node import fluentd, scraped
from components.values import checks
from components.values.edges import Edge
from components.values.metrics import Alert, ScrapeJob
from components.values.names import child
from components.values.redis_user import RedisUser

KINDS = ("redis_slowlog", "storm", "nginx_access", "mysql_slow")
FILE_KINDS = ("nginx_access", "mysql_slow")

LOG_FOLDER = "/var/log/adapted"
"""Where the adapter and the application have the folder of the log files in common."""

NGINX_LOG_FORMAT = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
    '"$http_referer" "$http_user_agent" rt=$request_time'
)
"""What an access log should look like: the combined format, and how long it took."""

_CONFIG = "/etc/log-adapter"
_SECRET = "/etc/log-adapter-secret"  # noqa: S105 (a path)
_POSITIONS = "/var/lib/log-adapter"
_RULES = ("+ping", "+info", "+slowlog|get", "+client|setname")
_HTTP = re.compile(r"http://[^\s/]+(:\d+)?(/\S*)?")
_MOST_SOURCES = 16


class LogSourceArgs(TypedDict):
    """A log that is read."""

    name: str
    """A DNS label, unique among the sources; ``source`` of its entries and the start of their
    ids."""
    kind: str
    """``redis_slowlog``, ``storm``, ``nginx_access`` or ``mysql_slow``."""
    address: NotRequired[str]
    """redis_slowlog: ``host:port``. Defaults to 127.0.0.1:6379."""
    auth: NotRequired[bool]
    """redis_slowlog: whether it logs in as ``user``, which the store must be given. Defaults to
    yes."""
    path: NotRequired[str]
    """nginx_access, mysql_slow: a file directly in LOG_FOLDER (/var/log/adapted). The application
    writes it there, with ``log_mount`` among its ``volume_mounts``."""
    url: NotRequired[str]
    """storm: where its UI's API is. Defaults to http://127.0.0.1:8080."""
    window: NotRequired[int]
    """storm: seconds that its figures are of, from 1. Defaults to 600."""
    sys: NotRequired[int]
    """storm: 1 with the system's own streams, 0 (default) without."""
    interval_seconds: NotRequired[int]
    """storm: seconds between two samples, from 1. Defaults to 60."""


class LogAdapterArgs(TypedDict):
    """Arguments of LogAdapter."""

    image: pulumi.Input[str]
    """The project's image ``companions``, with a tag or digest."""
    sources: Sequence[LogSourceArgs]
    """From 1 to 16."""
    poll_seconds: NotRequired[float]
    """Seconds between two looks at a source, from 0.1 to 60. Defaults to 1. Redis' slow log holds
    128 entries: what more comes in one interval is lost, and said to be."""
    port: NotRequired[int]
    """Port of the metrics, from 1024. Defaults to 9106."""
    log_size: NotRequired[str]
    """Size of the volume for log files, a Kubernetes quantity. What was read is freed at once, so
    it bounds what is not read yet. Defaults to 128Mi."""
    egress: NotRequired[Sequence[Edge]]
    """Connections to sources in other pods. By default all are in the same."""
    scrapers: NotRequired[Sequence[Mapping[str, str]]]
    """Labels of pods that may scrape. Default to those labelled ``dds/scrapes: "true"``."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits; what is left out keeps the default of every container."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace, the same as that of the pods. Defaults to the provider's."""


class LogAdapter(pulumi.ComponentResource):
    """Reads logs and writes their entries to its container's output, as lines of JSON of one form.

    Each entry is written once, also when the adapter is restarted: its position is kept on a volume
    of the pod. Nothing is queued: an output that takes nothing stops the reading. The form is
    docs/schemas/log-entry-1.json.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    user: RedisUser | None
    """The user that the store must know; None without a redis_slowlog with ``auth``."""
    log_mount: VolumeMountArgsDict | None
    """Where the application writes its log files, for its ``volume_mounts``; None without a source
    that is a file."""
    job: ScrapeJob
    """What Prometheus scrapes."""
    alerts: tuple[Alert, ...]
    """Rules for Prometheus."""
    fluentd: str
    """The sources as Fluentd's configuration, those of kinds for which it has a plugin (all but
    mysql_slow)."""

    def __init__(
        self, name: str, args: LogAdapterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the adapter.

        :param name: a DNS label of at most 50 characters; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'LogAdapter "{name}"'
        plan = _checked(where, name, args)
        super().__init__("dds:index:LogAdapter", name, {"image": args["image"]}, opts)
        own = pulumi.ResourceOptions(parent=self)
        selector = pod_labels.selector("log-adapter", name, "adapter")
        metadata: ObjectMetaArgsDict = {"labels": pod_labels.standard(selector, None)}
        if "namespace" in args:
            metadata["namespace"] = args["namespace"]
        config = ConfigMap(
            name, metadata=metadata, data={"config.json": plan.json()}, immutable=True, opts=own
        )
        depends_on: list[pulumi.Resource] = [config]
        config_volume, positions = child(name, "config"), child(name, "positions")
        volumes: list[VolumeArgsDict] = [
            {"name": config_volume, "config_map": {"name": config.metadata["name"]}},
            # It outlives the container, as the sources' own files do, and no longer.
            {"name": positions, "empty_dir": {"size_limit": "1Mi"}},
        ]
        mounts: list[VolumeMountArgsDict] = [
            {"name": config_volume, "mount_path": _CONFIG, "read_only": True},
            {"name": positions, "mount_path": _POSITIONS},
        ]
        self.log_mount = None
        if plan.files:
            logs = child(name, "logs")
            volumes.append({"name": logs, "empty_dir": {"size_limit": plan.log_size}})
            self.log_mount = {"name": logs, "mount_path": LOG_FOLDER}
            mounts.append(self.log_mount)
        self.user = None
        if plan.user is not None:
            password: pulumi.Output[str] = pulumi.Output.secret(
                Password(f"{name}-password", {}, own).value
            )
            self.user = RedisUser(plan.user, _RULES, password)
            secret = Secret(
                name,
                metadata=metadata,
                type="Opaque",
                string_data={"password": password},
                immutable=True,
                opts=own,
            )
            volume = child(name, "password")
            volumes.append(
                {
                    "name": volume,
                    "secret": {"secret_name": secret.metadata["name"], "default_mode": 0o440},
                }
            )
            mounts.append({"name": volume, "mount_path": _SECRET, "read_only": True})
            depends_on.append(secret)
        container: ContainerArgsDict = {
            "name": name,
            "image": args["image"],
            "command": ["python3", "-m", "companions.logs", f"{_CONFIG}/config.json"],
            "volume_mounts": mounts,
            # Neither asks for a source, and there is no readiness probe: a program whose log cannot
            # be read for a moment still serves.
            "startup_probe": asked("/health", plan.port, 1, 60),
            "liveness_probe": asked("/health", plan.port, 10, 6),
        }
        if "resources" in args:
            container["resources"] = args["resources"]
        self.companion = Companion(
            name=name,
            containers=(container,),
            listeners=(Listener(plan.port, "log-metrics"),),
            volumes=tuple(volumes),
            pod_labels=scraped.labels(name),
            egress=tuple(args.get("egress", ())),
            ingress=plan.ingress,
            depends_on=tuple(depends_on),
        )
        self.job = scraped.job(name, plan.port, metadata, own)
        self.alerts = _alerts(name)
        self.fluentd = plan.fluentd()
        self.register_outputs({"fluentd": self.fluentd})


@dataclasses.dataclass(frozen=True)
class _Plan:
    sources: Sequence[Mapping[str, Any]]
    port: int
    log_size: str
    user: str | None
    ingress: tuple[Edge, ...]

    @property
    def files(self) -> bool:
        return any(source["kind"] in FILE_KINDS for source in self.sources)

    def json(self) -> str:
        """The program's configuration file."""
        return (
            json.dumps(
                {"port": self.port, "positions": _POSITIONS, "sources": self.sources}, indent=1
            )
            + "\n"
        )

    def fluentd(self) -> str:
        """Fluentd's configuration file."""
        sections = []
        for source in self.sources:
            tag = source["name"].replace("-", ".")
            if source["kind"] == "redis_slowlog":
                host, _, port = source["address"].rpartition(":")
                sections.append(fluentd.redis_slowlog(host, int(port), tag))
            elif source["kind"] == "storm":
                sections.append(fluentd.storm(source["url"], source["window"], source["sys"], tag))
            elif source["kind"] == "nginx_access":
                sections.append(fluentd.nginx_access(source["path"], tag))
        return fluentd.text([*sections, fluentd.to_output()])


_ONLY = {
    "address": ("redis_slowlog",),
    "auth": ("redis_slowlog",),
    "path": FILE_KINDS,
    "url": ("storm",),
    "window": ("storm",),
    "sys": ("storm",),
    "interval_seconds": ("storm",),
}


def _checked(where: str, name: str, args: LogAdapterArgs) -> _Plan:
    scraped.check(where, name, LogAdapterArgs, args)
    poll = checks.number(
        where, "poll_seconds", args.get("poll_seconds", 1.0), minimum=0.1, maximum=60
    )
    port = checks.integer(where, "port", args.get("port", 9106), minimum=1024, maximum=65535)
    if not 1 <= len(args["sources"]) <= _MOST_SOURCES:
        raise InputError(
            where, "sources", len(args["sources"]), f"must be from 1 to {_MOST_SOURCES}"
        )
    sources = [
        {**_source(where, f"sources[{place}]", source, name), "poll_seconds": poll}
        for place, source in enumerate(args["sources"])
    ]
    checks.unique(where, "sources.name", [source["name"] for source in sources])
    checks.unique(where, "sources.path", [s["path"] for s in sources if "path" in s])
    return _Plan(
        sources=sources,
        port=port,
        log_size=checks.quantity(where, "log_size", args.get("log_size", "128Mi")),
        user=name if any("user" in source for source in sources) else None,
        ingress=scraped.edges(where, port, args.get("scrapers", scraped.DEFAULT_SCRAPERS)),
    )


def _source(where: str, argument: str, given: LogSourceArgs, user: str) -> dict[str, Any]:
    checks.known_arguments(f"{where}: {argument}", LogSourceArgs, given)
    kind = checks.one_of(where, f"{argument}.kind", given["kind"], KINDS)
    for key, kinds in _ONLY.items():
        if key in given and kind not in kinds:
            value: Any = given[key]  # type: ignore[literal-required]
            raise InputError(
                where, f"{argument}.{key}", value, f"must be left out: it is for {', '.join(kinds)}"
            )
    source: dict[str, Any] = {
        "name": checks.dns_label(where, f"{argument}.name", given["name"]),
        "kind": kind,
    }
    if kind == "redis_slowlog":
        source["address"] = given.get("address", "127.0.0.1:6379")
        host, _, number = source["address"].rpartition(":")
        if not host or not number.isdigit():
            raise InputError(where, f"{argument}.address", source["address"], "must be host:port")
        if given.get("auth", True):
            source |= {"user": user, "password_file": f"{_SECRET}/password"}
    elif kind == "storm":
        source["url"] = given.get("url", "http://127.0.0.1:8080")
        if not _HTTP.fullmatch(source["url"]):
            raise InputError(
                where, f"{argument}.url", source["url"], "must be like http://127.0.0.1:8080"
            )
        for key, default, lowest in (
            ("window", 600, 1),
            ("sys", 0, 0),
            ("interval_seconds", 60, 1),
        ):
            value = given.get(key, default)
            source[key] = checks.integer(where, f"{argument}.{key}", value, minimum=lowest)
    else:
        if "path" not in given:
            raise InputError(where, f"{argument}.path", None, f"must name a file in {LOG_FOLDER}")
        path = checks.absolute_path(where, f"{argument}.path", given["path"])
        if posixpath.dirname(path) != LOG_FOLDER:
            raise InputError(where, f"{argument}.path", path, f"must lie directly in {LOG_FOLDER}")
        source["path"] = path
    return source


def _alerts(job: str) -> tuple[Alert, ...]:
    return (
        Alert(
            "LogEntriesLost",
            f'increase(log_adapter_lost_total{{job="{job}"}}[5m]) > 0',
            "{{ $labels.source }} overwrote entries before they were read.",
            hold_seconds=0,
        ),
        Alert(
            "LogSourceUnreadable",
            f'log_adapter_source_up{{job="{job}"}} == 0',
            "The log {{ $labels.source }} of {{ $labels.instance }} cannot be read.",
            hold_seconds=120,
        ),
        Alert(
            "LogAdapterDown",
            f'up{{job="{job}"}} == 0',
            "The log adapter at {{ $labels.instance }} cannot be scraped.",
        ),
    )
