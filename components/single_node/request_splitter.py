"""Ambassador: the application talks to localhost, and a share of its users takes part in an
experiment (chapter 3).

nginx hashes what names a user onto a line of 2**32 points, of which the first ``percent`` belong to
the experiment. A user stays where they are; a higher percentage moves only those between the old and
the new threshold.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import ContainerArgsDict, ResourceRequirementsArgsDict
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.pods.companion import Companion, Listener
from components.pods.probes import asked
from components.single_node import configured, scraped
from components.values import checks, nginx
from components.values.edges import Edge
from components.values.endpoint import Endpoint
from components.values.errors import InputError
from components.values.metrics import ScrapeJob

CONTROL = "control"
"""Name of the arm that everybody else sees."""
EXPERIMENT = "experiment"
"""Name of the arm that ``percent`` of the users see."""

ARMS = (CONTROL, EXPERIMENT)
"""Both arms."""

POLICIES = ("default", "seed")
KEYS = ("header", "cookie", "address")
WITHOUT_KEY = (CONTROL, "random")

_LOOPBACK = "127.0.0.1"
_FOLDER = "/etc/nginx-splitter"
_FILE = "nginx.conf"
_SEED_PERCENT = 10
# A port below needs a capability.
_PORTS = (1024, 65535)
_HEADER = re.compile(r"[A-Za-z][-A-Za-z0-9]{0,63}")
_COOKIE = re.compile(r"[A-Za-z0-9_]{1,64}")
# Connections to each arm that wait for the next request; how long one may wait; and how long one is
# used at all, which is less than what Applications drain for (5 s).
_KEPT, _IDLE_SECONDS, _KEPT_SECONDS = 64, 1, 2
# nginx counts in hundredths of a percent.
_HUNDREDTHS = 100
_WHOLE = 100
_NAMES = {"header": "X-User-Id", "cookie": "user", "address": "X-Forwarded-For"}


class ArmArgs(TypedDict):
    """One of the two services between which requests are split."""

    endpoint: pulumi.Input[str]
    """``host:port`` of the Service, most often ``application.endpoint``. It need not be there yet."""
    edge: Edge
    """The connection that this is at the pods: their own port and labels."""


class StickyArgs(TypedDict):
    """What names a user, so that each sees one arm only."""

    by: str
    """``header``, ``cookie`` or ``address``. The address is what the application says in a header:
    everything comes from localhost, so the address of the connection names nobody."""
    name: NotRequired[str]
    """Name of the header or cookie. Defaults to X-User-Id, user or X-Forwarded-For, of which the
    first address counts."""
    without: NotRequired[str]
    """Where a request without it goes: ``control`` (default), or ``random``, each by itself."""


class RequestSplitterArgs(TypedDict):
    """Arguments of RequestSplitter."""

    image: pulumi.Input[str]
    """Image with nginx, sh and awk, with a tag or digest."""
    metrics_image: pulumi.Input[str]
    """The project's image ``companions``, whose program counts by arm."""
    control: ArmArgs
    """What everybody else sees."""
    experiment: ArmArgs
    """What ``percent`` of the users see."""
    percent: NotRequired[float]
    """Share of the users in the experiment, from 0 (off) to 100, in steps of 0.01. Defaults to 10."""
    sticky: NotRequired[StickyArgs]
    """What names a user. Defaults to the header X-User-Id."""
    salt: NotRequired[str]
    """Hashed with the user, so that another experiment has other users. Defaults to the component's
    name; the users change with it."""
    force_header: NotRequired[str]
    """Header that chooses the arm by its name, ``control`` or ``experiment``, whoever it is.
    Defaults to X-Arm. The arms get it too, and so does the application with the answer."""
    policy: NotRequired[str]
    """``default``, or ``seed`` for the settings that the book prints, with which all go to one arm:
    takes no other setting but ports and ``resources``, and counts nothing."""
    listen_port: NotRequired[int]
    """Port on 127.0.0.1 for the application. Defaults to 8080."""
    status_port: NotRequired[int]
    """Port for the kubelet's probes, on all addresses. Defaults to 8081."""
    metrics_port: NotRequired[int]
    """Port for Prometheus, on all addresses. Defaults to 9114."""
    line_port: NotRequired[int]
    """UDP port on 127.0.0.1 between nginx and the program that counts. Defaults to 5140."""
    scrapers: NotRequired[Sequence[Mapping[str, str]]]
    """Labels of pods of the namespace that may scrape. Defaults to those that Prometheus has here."""
    connect_timeout_ms: NotRequired[int]
    """Milliseconds for an arm to accept a connection. Defaults to 2000."""
    timeout_seconds: NotRequired[int]
    """Seconds without a byte from an arm after which it is a 504. Defaults to 60."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits of nginx; what is left out keeps the default of every container."""
    after: NotRequired[Sequence[pulumi.Resource]]
    """What must be there before the pods. Needed with the seed's policy only, whose nginx does not
    start without both arms."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace of the configuration, the same as that of the pods. Defaults to the provider's."""


class RequestSplitter(pulumi.ComponentResource):
    """An nginx beside the application that sends a share of its users elsewhere.

    Registers its configuration (auto-named: a changed percentage rolls the pods), and a headless
    Service by which Prometheus finds every pod that has it. ``companion`` adds the rest to any
    workload.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    endpoint: str
    """``host:port`` for the application in the same pod."""
    job: ScrapeJob | None
    """What Prometheus scrapes; None with the seed's policy."""

    def __init__(
        self, name: str, args: RequestSplitterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the configuration.

        :param name: a DNS label of at most 50 characters; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'RequestSplitter "{name}"'
        split = _checked(where, name, args)
        super().__init__(
            "dds:index:RequestSplitter",
            name,
            {"image": args["image"], "percent": split.percent, "policy": split.policy},
            opts,
        )
        own = pulumi.ResourceOptions(parent=self)
        metadata = configured.metadata("nginx", name, "ambassador", args.get("namespace"))
        text = pulumi.Output.all(args["control"]["endpoint"], args["experiment"]["endpoint"]).apply(
            lambda known: split.configuration(
                Endpoint.parse(where, "control.endpoint", known[0]),
                Endpoint.parse(where, "experiment.endpoint", known[1]),
            )
        )
        files = configured.configured(name, _FOLDER, {_FILE: text}, metadata=metadata, opts=own)
        self.endpoint = f"{_LOOPBACK}:{split.ports.listen}"
        self.companion = _companion(name, args, split, files)
        self.job = _job(name, split, metadata, own)
        self.register_outputs({"endpoint": self.endpoint})


@dataclasses.dataclass(frozen=True)
class _Ports:
    listen: int
    status: int
    metrics: int
    lines: int


@dataclasses.dataclass(frozen=True)
class _Split:
    """A splitter's settings, and the configuration that they make."""

    name: str
    policy: str
    percent: float
    by: str
    key: str
    without: str
    salt: str
    force_header: str
    ports: _Ports
    connect_timeout: int
    timeout: int
    ingress: tuple[Edge, ...]

    def configuration(self, control: Endpoint, experiment: Endpoint) -> str:
        """The configuration file of nginx."""
        if self.policy == "seed":
            return nginx.text(self._seed(control, experiment))
        title = (
            f"{self.percent:g} % of the users to {experiment}, the others to {control}, for the "
            "containers of this pod. Generated."
        )
        http = [
            *self._choice(),
            *self._arms(control, experiment),
            *self._lines(),
            self._server(),
            self._status(),
        ]
        stream = self._connections(control, experiment)
        # A request takes four: from the application, to the socket, from there, and to the arm.
        document = nginx.document(title, http=http, stream=stream, connections=8192, resolver=True)
        return nginx.text(document)

    def _choice(self) -> list[nginx.Statement]:
        """From a request to ``$arm``, and in ``$how`` why."""
        found: list[nginx.Statement] = [
            nginx.Comment("The header decides if it names an arm, else the user, else nobody.")
        ]
        user = _variable("http", self.key)
        if self.by == "cookie":
            user = _variable("cookie", self.key)
        if self.by == "address":
            # Each proxy on the way adds the address it sees; the first is the user's.
            pattern = r"~^\s*(?<first_address>[^,\s]+)"
            found.append(
                nginx.mapping(user, "user", [("default", ""), (pattern, "$first_address")])
            )
            user = "$user"
        found.append(self._hashed(f"{self.salt}:{user}", "by_user"))
        without = CONTROL
        if self.without == "random":
            found.append(self._hashed("$request_id", "by_chance"))
            without = "$by_chance"
        forced = _variable("http", self.force_header)
        found += [
            nginx.mapping(user, "unforced", [("", without), ("default", "$by_user")]),
            nginx.mapping(forced, "arm", [("default", "$unforced"), *zip(ARMS, ARMS, strict=True)]),
            nginx.mapping(user, "unforced_how", [("", "keyless"), ("default", "user")]),
            nginx.mapping(
                forced, "how", [("default", "$unforced_how"), *((arm, "forced") for arm in ARMS)]
            ),
        ]
        return found

    def _hashed(self, source: str, variable: str) -> nginx.Directive:
        # 0 % and 100 % are no entries that nginx accepts.
        entries = [("*", EXPERIMENT if self.percent == _WHOLE else CONTROL)]
        if 0 < self.percent < _WHOLE:
            entries.insert(0, (f"{self.percent:.2f}%", EXPERIMENT))
        return nginx.table("split_clients", source, f"${variable}", entries=entries)

    def _arms(self, control: Endpoint, experiment: Endpoint) -> list[nginx.Statement]:
        """The arms as nginx's HTTP side sees them: a socket each, with connections that are kept."""
        return [
            nginx.Comment(
                "A connection is used again, but not for long: an arm may close one that is idle, and\n"
                "its pods must be without any before they end."
            ),
            *(
                nginx.block(
                    "upstream",
                    arm,
                    inside=[
                        nginx.directive("server", f"unix:{_socket(arm)}"),
                        nginx.directive("keepalive", _KEPT),
                        nginx.directive("keepalive_timeout", f"{_IDLE_SECONDS}s"),
                        nginx.directive("keepalive_time", f"{_KEPT_SECONDS}s"),
                        nginx.directive("keepalive_requests", 100_000),
                    ],
                )
                for arm in ARMS
            ),
            nginx.mapping(
                "$arm", "arm_host", [("default", str(control)), (EXPERIMENT, str(experiment))]
            ),
            nginx.mapping("$http_upgrade", "arm_connection", [("default", "upgrade"), ("", "")]),
        ]

    def _connections(self, control: Endpoint, experiment: Endpoint) -> list[nginx.Statement]:
        """From each arm's socket to the arm."""
        return [
            nginx.Comment(
                "Names are looked up when they are needed, so that nginx starts, and serves the\n"
                "other arm, where one is not there. On the HTTP side it would open a connection for\n"
                "each request then."
            ),
            nginx.Comment("A question that got lost is asked again after 5 s."),
            nginx.directive("resolver_timeout", "12s"),
            *(
                nginx.block(
                    "server",
                    inside=[
                        nginx.directive("listen", f"unix:{_socket(arm)}"),
                        nginx.directive("set", "$address", nginx.lookup_address(endpoint)),
                        nginx.directive("proxy_pass", "$address"),
                        nginx.directive("proxy_connect_timeout", f"{self.connect_timeout}ms"),
                        # The HTTP side gives up first.
                        nginx.directive("proxy_timeout", f"{self.timeout + 5}s"),
                    ],
                )
                for arm, endpoint in zip(ARMS, (control, experiment), strict=True)
            ),
        ]

    def _lines(self) -> list[nginx.Statement]:
        return [
            nginx.Comment("A datagram for each request: nginx waits for nobody who counts."),
            nginx.directive(
                "log_format",
                "arms",
                "arm=$arm how=$how status=$status seconds=$request_time",
            ),
        ]

    def _server(self) -> nginx.Directive:
        receiver = f"syslog:server={_LOOPBACK}:{self.ports.lines},nohostname,tag=splitter"
        inside: list[nginx.Statement] = [
            nginx.directive("listen", f"{_LOOPBACK}:{self.ports.listen}"),
            nginx.directive("access_log", receiver, "arms"),
            # What is too large, and what waits in memory, is the arms' business.
            nginx.directive("client_max_body_size", 0),
            nginx.directive("keepalive_requests", 100_000),
            nginx.directive("add_header", self.force_header, "$arm", "always"),
            nginx.block(
                "location",
                "/",
                inside=[
                    nginx.directive("proxy_pass", "http://$arm"),
                    nginx.directive("proxy_http_version", "1.1"),
                    nginx.directive("proxy_set_header", "Host", "$arm_host"),
                    nginx.directive("proxy_set_header", "Connection", "$arm_connection"),
                    nginx.directive("proxy_set_header", "Upgrade", "$http_upgrade"),
                    nginx.directive("proxy_set_header", self.force_header, "$arm"),
                    nginx.directive("proxy_hide_header", self.force_header),
                    nginx.directive("proxy_request_buffering", False),
                    nginx.directive("proxy_max_temp_file_size", 0),
                    nginx.directive("proxy_read_timeout", f"{self.timeout}s"),
                    nginx.directive("proxy_send_timeout", f"{self.timeout}s"),
                ],
            ),
        ]
        return nginx.block("server", inside=inside)

    def _status(self) -> nginx.Directive:
        paths = [
            nginx.block("location", "=", path, inside=[nginx.directive("return", 200, "ok")])
            for path in ("/readyz", "/livez")
        ]
        return nginx.block(
            "server",
            inside=[
                nginx.directive("listen", self.ports.status),
                *paths,
                nginx.block("location", "/", inside=[nginx.directive("return", 404)]),
            ],
        )

    def _seed(self, control: Endpoint, experiment: Endpoint) -> list[nginx.Statement]:
        backend = nginx.block(
            "upstream",
            "backend",
            inside=[
                nginx.directive("ip_hash"),
                nginx.directive("server", control, "weight=9"),
                nginx.directive("server", experiment),
            ],
        )
        server = nginx.block(
            "server",
            inside=[
                # Where localhost has an IPv6 address too, Debian's nginx reads it as 127.0.0.1 twice.
                nginx.directive("listen", f"{_LOOPBACK}:{self.ports.listen}"),
                nginx.block(
                    "location", "/", inside=[nginx.directive("proxy_pass", "http://backend")]
                ),
            ],
        )
        return nginx.document(
            "What the book prints; a port that needs no privilege, and a server for the probes.",
            top=[nginx.directive("worker_rlimit_nofile", 8192)],
            http=[backend, server, self._status()],
            workers=5,
            connections=1024,
        )


def _socket(arm: str) -> str:
    return f"{nginx.TEMPORARY}/{arm}{nginx.SOCKET}"


def _variable(kind: str, name: str) -> str:
    return f"${kind}_{name.lower().replace('-', '_')}"


def _companion(
    name: str, args: RequestSplitterArgs, split: _Split, files: configured.Configured
) -> Companion:
    ports, seed = split.ports, split.policy == "seed"
    proxy: ContainerArgsDict = {
        "name": name,
        "image": args["image"],
        "command": nginx.command(f"{_FOLDER}/{_FILE}", resolver=not seed),
        "volume_mounts": list(files.mounts),
        # They ask nginx, never an arm: one that is gone must not take the applications of a whole
        # deployment with it.
        "startup_probe": asked("/readyz", ports.status, 1, 60),
        "readiness_probe": asked("/readyz", ports.status, 5, 2),
        "liveness_probe": asked("/livez", ports.status, 10, 6),
    }
    if "resources" in args:
        proxy["resources"] = args["resources"]
    containers: list[ContainerArgsDict] = [proxy]
    listeners = [
        Listener(ports.listen, "splitter", _LOOPBACK),
        Listener(ports.status, "splitter-status"),
    ]
    labels: dict[str, str] = {}
    ingress: tuple[Edge, ...] = ()
    if not seed:
        # First, so that no request goes uncounted.
        containers.insert(0, _counter(name, args, ports))
        listeners += [
            Listener(ports.metrics, "splitter-metric"),
            Listener(ports.lines, "splitter-lines", _LOOPBACK, "UDP"),
        ]
        labels = scraped.labels(name)
        ingress = split.ingress
    return Companion(
        name=name,
        containers=tuple(containers),
        listeners=tuple(listeners),
        volumes=files.volumes,
        pod_labels=labels,
        egress=_edges(args),
        ingress=ingress,
        depends_on=(files.config, *args.get("after", ())),
    )


def _edges(args: RequestSplitterArgs) -> tuple[Edge, ...]:
    edges = (args["control"]["edge"], args["experiment"]["edge"])
    return edges[:1] if edges[0] == edges[1] else edges


def _counter(name: str, args: RequestSplitterArgs, ports: _Ports) -> ContainerArgsDict:
    program = ["python3", "-m", "companions.arms", "0.0.0.0", str(ports.metrics), str(ports.lines)]  # noqa: S104
    return {
        "name": f"{name}-metrics",
        "image": args["metrics_image"],
        "command": program,
        "startup_probe": asked("/healthz", ports.metrics, 1, 60),
        # There is no readiness probe: who cannot be watched for a moment still serves.
        "liveness_probe": asked("/healthz", ports.metrics, 10, 6),
    }


def _job(
    name: str, split: _Split, metadata: ObjectMetaArgsDict, opts: pulumi.ResourceOptions
) -> ScrapeJob | None:
    if split.policy == "seed":
        return None
    return scraped.job(name, split.ports.metrics, metadata, opts)


_FIXED_BY_SEED = (
    "percent", "sticky", "salt", "force_header", "metrics_port", "line_port", "scrapers",
    "connect_timeout_ms", "timeout_seconds",
)  # fmt: skip


def _checked(where: str, name: str, args: RequestSplitterArgs) -> _Split:
    scraped.check(where, name, RequestSplitterArgs, args, ("image", "metrics_image"))
    for arm in ARMS:
        _check_arm(where, arm, args[arm])  # type: ignore[literal-required]
    policy = checks.one_of(where, "policy", args.get("policy", "default"), POLICIES)
    if policy == "seed":
        for argument in _FIXED_BY_SEED:
            if argument in args:
                raise InputError(
                    where,
                    argument,
                    args[argument],  # type: ignore[literal-required]
                    'must be left out: policy "seed" is what the book prints',
                )
    by_header: StickyArgs = {"by": "header"}
    sticky = args.get("sticky", by_header)
    by, key = _key(where, sticky)
    salt = nginx.literal(where, "salt", args.get("salt", name))
    ports = _ports(where, args)
    scrapers = args.get("scrapers", scraped.DEFAULT_SCRAPERS)
    return _Split(
        name=name,
        policy=policy,
        percent=_SEED_PERCENT if policy == "seed" else _percent(where, args),
        by=by,
        key=key,
        without=checks.one_of(where, "sticky.without", sticky.get("without", CONTROL), WITHOUT_KEY),
        salt=salt,
        force_header=_header(where, "force_header", args.get("force_header", "X-Arm")),
        ports=ports,
        connect_timeout=checks.whole(where, args, "connect_timeout_ms", 2000, (1, 600_000)),
        timeout=checks.whole(where, args, "timeout_seconds", 60, (1, 86_400)),
        ingress=scraped.edges(where, ports.metrics, scrapers),
    )


def _percent(where: str, args: RequestSplitterArgs) -> float:
    percent = checks.percentage(where, "percent", args.get("percent", 10))
    if abs(round(percent * _HUNDREDTHS) - percent * _HUNDREDTHS) > 1 / _HUNDREDTHS:
        raise InputError(
            where, "percent", percent, "must have at most two decimals, nginx knows no more"
        )
    return percent


def _check_arm(where: str, argument: str, arm: Any) -> None:
    checks.known_arguments(f"{where}: {argument}", ArmArgs, arm)
    if not checks.is_deferred(arm["endpoint"]):
        Endpoint.parse(where, f"{argument}.endpoint", arm["endpoint"])
    if not isinstance(arm["edge"], Edge):
        raise InputError(
            where, f"{argument}.edge", arm["edge"], "must be an Edge to the arm's pods"
        )


def _key(where: str, sticky: StickyArgs) -> tuple[str, str]:
    checks.known_arguments(f"{where}: sticky", StickyArgs, sticky)
    by = checks.one_of(where, "sticky.by", sticky["by"], KEYS)
    name: Any = sticky.get("name", _NAMES[by])
    if by != "cookie":
        return by, _header(where, "sticky.name", name)
    if not isinstance(name, str) or not _COOKIE.fullmatch(name):
        raise InputError(where, "sticky.name", name, "must be letters, digits and underscores")
    return by, name


def _header(where: str, argument: str, name: Any) -> str:
    if not isinstance(name, str) or not _HEADER.fullmatch(name):
        raise InputError(where, argument, name, "must be a header's name such as X-User-Id")
    return name


def _ports(where: str, args: RequestSplitterArgs) -> _Ports:
    ports = {
        "listen_port": checks.whole(where, args, "listen_port", 8080, _PORTS),
        "status_port": checks.whole(where, args, "status_port", 8081, _PORTS),
        "metrics_port": checks.whole(where, args, "metrics_port", 9114, _PORTS),
    }
    checks.different(where, ports)
    lines = checks.whole(where, args, "line_port", 5140, _PORTS)
    return _Ports(ports["listen_port"], ports["status_port"], ports["metrics_port"], lines)
