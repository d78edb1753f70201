"""Adapter: logs of several programs in one format, without duplicates (chapter 4).

The book uses Fluentd, with plugins that are no longer maintained. Here a small program of the
project reads the sources; ``fluentd`` is the equivalent configuration for a Fluentd with the
plugins.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import VolumeMountArgsDict

from dds_patterns.arguments import (
    DISTINCT,
    Default,
    DefaultsTo,
    InputError,
    Later,
    between,
    matching,
    one_of,
    resolved,
)
from dds_patterns.arguments.addresses import UnprivilegedPort
from dds_patterns.arguments.constraints import some
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import DnsLabel, check_name
from dds_patterns.arguments.place import Place
from dds_patterns.arguments.quantities import Size
from dds_patterns.platform.generated import RotationArgs, check_rotation, rotated
from dds_patterns.pods.images import image_of
from dds_patterns.single_node import fluentd
from dds_patterns.single_node.scraped import Scraped
from dds_patterns.values.metrics import Alert
from dds_patterns.values.names import child
from dds_patterns.values.reach import NO_QUERY, ONE_ENDPOINT, Reach, speaking
from dds_patterns.values.redis_user import RedisUser, check_user
from dds_patterns.workloads.files import NOTHING_MOUNTED, Mounted
from dds_patterns.workloads.program import RESERVE, Program, ScrapedArgs

KINDS = ("redis_slowlog", "storm", "nginx_access", "mysql_slow")
FILE_KINDS = ("nginx_access", "mysql_slow")

_FOLDER = "/var/log/adapted"
_CONFIG = "/etc/log-adapter/config.json"
_PASSWORD = "/etc/log-adapter-secret/password"  # noqa: S105 (a path)
_POSITIONS = "/var/lib/log-adapter"
_RULES = ("+ping", "+info", "+slowlog|get", "+client|setname")
_ODD_FILES = ("", "..", "a/b", "../x", "*.log", "a,b", "%Y", "{a,b}", "a b", "a\nb", "#{x}")
_YEAR = 31_536_000


class LogSourceArgs(TypedDict):
    """A log that is read."""

    name: DnsLabel
    """Unique among the sources; the field ``source`` of its entries and the prefix of their ids."""
    kind: Annotated[str, one_of(*KINDS)]
    """Type of the log."""
    server: NotRequired[
        Annotated[
            Reach,
            ONE_ENDPOINT,
            DefaultsTo("127.0.0.1:6379 for redis_slowlog, 127.0.0.1:8080 for storm"),
        ]
    ]
    """redis_slowlog: the Redis. storm: the API of its UI."""
    auth: NotRequired[Annotated[bool, DefaultsTo("true")]]
    """redis_slowlog: whether it authenticates as ``user``, which the store must be given."""
    path: NotRequired[
        Annotated[
            str,
            matching(
                # Fluentd reads * , % and { in a path as more than one file.
                rf"{_FOLDER}/[A-Za-z0-9][-._A-Za-z0-9]*",
                f"a file directly in {_FOLDER}, of letters, digits, dashes, dots, underscores",
                most=200,
                odd=[
                    "/var/log/x",
                    "x.log",
                    _FOLDER,
                    *(f"{_FOLDER}/{odd}" for odd in _ODD_FILES),
                ],
            ),
        ]
    ]
    """nginx_access, mysql_slow: file that the application writes, with ``log_mount`` among its
    ``volume_mounts``."""
    window: NotRequired[Annotated[int, between(1, _YEAR), DefaultsTo("600")]]
    """storm: time window of the statistics, in seconds."""
    sys: NotRequired[Annotated[int, between(0, 1), DefaultsTo("0")]]
    """storm: 1 includes the system's own streams, 0 leaves them out."""
    interval_seconds: NotRequired[Annotated[int, between(1, _YEAR), DefaultsTo("60")]]
    """storm: seconds between two samples."""


class LogAdapterArgs(ScrapedArgs):
    """Arguments of LogAdapter."""

    image: NotRequired[Annotated[Later[Image], image_of("companions")]]
    """The project's image ``companions``."""
    sources: Annotated[Sequence[LogSourceArgs], some(16, "logs")]
    """The logs."""
    poll_seconds: NotRequired[Annotated[float, between(0.1, 60), Default(1)]]
    """Seconds between two polls of a source. Redis' slow log holds 128 entries: more in one
    interval are lost, and counted as lost."""
    port: NotRequired[Annotated[UnprivilegedPort, Default(9106)]]
    """Port of the metrics."""
    log_size: NotRequired[Annotated[Size, Default("128Mi")]]
    """Size of the volume for log files. Entries are freed once they are read, so it bounds the
    unread ones."""
    rotation: NotRequired[Annotated[RotationArgs, Default({})]]
    """Rotation of the password of ``user``."""


_ALERTS = (
    Alert(
        "LogEntriesLost",
        "increase(log_adapter_lost_total{$job}[5m]) > 0",
        "{{ $labels.source }} overwrote entries before they were read.",
        for_seconds=0,
    ),
    Alert(
        "LogSourceUnreadable",
        "log_adapter_source_up{$job} == 0",
        "The log {{ $labels.source }} of {{ $labels.instance }} cannot be read.",
        for_seconds=120,
    ),
    Alert(
        "LogAdapterDown",
        "up{$job} == 0",
        "The log adapter at {{ $labels.instance }} cannot be scraped.",
    ),
)


class LogAdapter(Scraped, pulumi.ComponentResource):
    """Reads logs and writes their entries to stdout, as JSON lines in one format.

    Each entry is written once, even if the adapter restarts: its position is kept on a volume of
    the pod. There is no queue: a blocked output stops the reading (back-pressure). The format is
    docs/schemas/log-entry-1.json.
    """

    FOLDER: ClassVar[str] = _FOLDER
    """Where the adapter and the application mount the shared folder of the log files."""
    NGINX_FORMAT: ClassVar[str] = (
        '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
        '"$http_referer" "$http_user_agent" rt=$request_time'
    )
    """Recommended ``log_format`` of nginx: the combined format and the request time."""

    user: RedisUser | None
    """The user that the store must be given; None without a redis_slowlog with ``auth``."""
    log_mount: VolumeMountArgsDict | None
    """Mount of the log files, for the application's ``volume_mounts``; None without a file
    source."""
    fluentd: pulumi.Output[str]
    """The sources as Fluentd's configuration, without mysql_slow, for which there is no plugin."""

    def __init__(
        self, name: str, args: LogAdapterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the adapter.

        :param name: a DNS label of at most 50 characters, the first a letter; names the container
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'LogAdapter "{name}"'
        args = _checked(where, name, args)
        sources = [_source(source, name, args["poll_seconds"]) for source in args["sources"]]
        logs_in = any("user" in source for source in sources)
        check_rotation(where, args["rotation"], generated=logs_in)
        if logs_in:
            check_user(where, name, _RULES)
        super().__init__("dds:index:LogAdapter", name, {"image": args["image"]}, opts)
        own = pulumi.ResourceOptions(parent=self)
        self.log_mount = None
        if any("path" in source for source in sources):
            self.log_mount = {"name": child(name, "logs"), "mount_path": _FOLDER}
        self.user = None
        secret_files = {}
        if logs_in:
            password = rotated(f"{name}-password", args["rotation"], own)
            self.user = RedisUser(name, _RULES, password.value, password.former)
            secret_files = {_PASSWORD: password.value}
        program = Program(
            where,
            name,
            application="log-adapter",
            part="adapter",
            image=args["image"],
            hosting=args["hosting"],
            command=["python3", "-m", "companions.logs", _CONFIG],
            files={_CONFIG: _json(args["port"], sources)},
            secret_files=secret_files,
            # It lives as long as the pod, like the source files, and so survives a container
            # restart.
            writable={_POSITIONS: {"size_limit": "1Mi"}},
            mounted=NOTHING_MOUNTED
            if self.log_mount is None
            else Mounted(
                ({"name": child(name, "logs"), "empty_dir": {"size_limit": args["log_size"]}},),
                (self.log_mount,),
            ),
            metrics={
                "name": "log-metrics",
                "port": args["port"],
                "clients": args["metrics_clients"],
            },
            # Liveness does not depend on a source, and there is no readiness probe: an unreadable
            # log must not make the pod unready.
            liveness={"path": "/health"},
            reaches=tuple(
                _server(source) for source in args["sources"] if source["kind"] in _SERVERS
            ),
        )
        self._run(program, _ALERTS, own)
        self.fluentd = pulumi.Output.from_input(sources).apply(fluentd.configuration)
        self.register_outputs({"fluentd": self.fluentd})


_SERVERS = {
    "redis_slowlog": Reach.local(6379, app_protocol="redis"),
    "storm": Reach.local(8080, app_protocol="http"),
}
_OF_STORM = {"window": 600, "sys": 0, "interval_seconds": 60}
_ONLY = {
    "server": tuple(_SERVERS),
    "auth": ("redis_slowlog",),
    "path": FILE_KINDS,
    **dict.fromkeys(_OF_STORM, ("storm",)),
}


def _checked(where: str, name: str, args: LogAdapterArgs) -> LogAdapterArgs:
    check_name(where, name, reserve=RESERVE, service=True)
    args = resolved(where, LogAdapterArgs, args)
    for position, source in enumerate(args["sources"]):
        argument, kind = f"sources[{position}]", source["kind"]
        for key, kinds in _ONLY.items():
            if key in source and kind not in kinds:
                value: Any = source[key]  # type: ignore[literal-required]
                expected = f"must be left out: it is for {', '.join(kinds)}"
                raise InputError(where, f"{argument}.{key}", value, expected)
        if kind in FILE_KINDS:
            if "path" not in source:
                raise InputError(where, f"{argument}.path", None, f"must name a file in {_FOLDER}")
            continue
        place = Place(where, f"{argument}.server")
        speaking(_SERVERS[kind].app_protocol).check(place, _server(source))
        if kind == "storm":
            NO_QUERY.check(place, _server(source))
    for key in ("name", "path"):
        values = [source.get(key) for source in args["sources"] if key in source]
        DISTINCT.check(Place(where, f"sources.{key}"), values)
    return args


def _source(given: LogSourceArgs, user: str, poll: float) -> dict[str, Any]:
    """A source as the program reads it."""
    source: dict[str, Any] = {"name": given["name"], "kind": given["kind"]}
    if given["kind"] == "redis_slowlog":
        source["address"] = _server(given).endpoint
        if given.get("auth", True):
            source |= {"user": user, "password_file": _PASSWORD}
    elif given["kind"] == "storm":
        source |= {key: given.get(key, default) for key, default in _OF_STORM.items()}
        source["url"] = _server(given).url.apply(lambda url: url.removesuffix("/"))
    else:
        source["path"] = given["path"]
    return {**source, "poll_seconds": poll}


def _server(source: LogSourceArgs) -> Reach:
    """The server of a source that is not a file."""
    return source.get("server", _SERVERS[source["kind"]])


def _json(port: int, sources: Sequence[Mapping[str, Any]]) -> pulumi.Output[str]:
    """The program's configuration file."""
    content = {"port": port, "positions": _POSITIONS, "sources": sources}
    return pulumi.Output.json_dumps(content, indent=1).apply(lambda text: f"{text}\n")
