"""Ambassador: the application talks to localhost, and a share of its users takes part in an
experiment (chapter 3).

nginx hashes what names a user onto a line of 2**32 points, of which the first ``percent`` belong to
the experiment. A user stays where they are; a higher percentage moves only those between the old and
the new threshold.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import ContainerArgsDict, ResourceRequirementsArgsDict
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.arguments.errors import InputError
from components.pods.companion import Companion, Listener
from components.pods.probes import asked
from components.single_node import configured, scraped
from components.single_node.splitter_files import ARMS, CONTROL, LOOPBACK, Ports, Split
from components.values import checks, nginx
from components.values.edges import Edge
from components.values.endpoint import Endpoint
from components.values.metrics import ScrapeJob

POLICIES = ("default", "seed")
KEYS = ("header", "cookie", "address")
WITHOUT_KEY = (CONTROL, "random")

_FOLDER = "/etc/nginx-splitter"
_FILE = "nginx.conf"
_SEED_PERCENT = 10
# A port below needs a capability.
_PORTS = (1024, 65535)
_HEADER = re.compile(r"[A-Za-z][-A-Za-z0-9]{0,63}")
_COOKIE = re.compile(r"[A-Za-z0-9_]{1,64}")
# nginx counts in hundredths of a percent.
_HUNDREDTHS = 100
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
    header_kilobytes: NotRequired[int]
    """KiB for one line of a request's head, and for all headers of an answer, from 8 to 256. More is
    refused: 414 or 400, and 502. Each running request takes as much memory. Defaults to 32."""
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
        self.endpoint = f"{LOOPBACK}:{split.ports.listen}"
        self.companion = _companion(name, args, split, files)
        self.job = _job(name, split, metadata, own)
        self.register_outputs({"endpoint": self.endpoint})


def _companion(
    name: str, args: RequestSplitterArgs, split: Split, files: configured.Configured
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
        Listener(ports.listen, "splitter", LOOPBACK),
        Listener(ports.status, "splitter-status"),
    ]
    labels: dict[str, str] = {}
    ingress: tuple[Edge, ...] = ()
    if not seed:
        # First, so that no request goes uncounted.
        containers.insert(0, _counter(name, args, ports))
        listeners += [
            Listener(ports.metrics, "splitter-metric"),
            Listener(ports.lines, "splitter-lines", LOOPBACK, "UDP"),
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


def _counter(name: str, args: RequestSplitterArgs, ports: Ports) -> ContainerArgsDict:
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
    name: str, split: Split, metadata: ObjectMetaArgsDict, opts: pulumi.ResourceOptions
) -> ScrapeJob | None:
    if split.policy == "seed":
        return None
    return scraped.job(name, split.ports.metrics, metadata, opts)


_FIXED_BY_SEED = (
    "percent", "sticky", "salt", "force_header", "metrics_port", "line_port", "scrapers",
    "connect_timeout_ms", "timeout_seconds", "header_kilobytes",
)  # fmt: skip


def _checked(where: str, name: str, args: RequestSplitterArgs) -> Split:
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
    return Split(
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
        header_kilobytes=checks.whole(where, args, "header_kilobytes", 32, nginx.HEADER_KILOBYTES),
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


def _ports(where: str, args: RequestSplitterArgs) -> Ports:
    ports = {
        "listen_port": checks.whole(where, args, "listen_port", 8080, _PORTS),
        "status_port": checks.whole(where, args, "status_port", 8081, _PORTS),
        "metrics_port": checks.whole(where, args, "metrics_port", 9114, _PORTS),
    }
    checks.different(where, ports)
    lines = checks.whole(where, args, "line_port", 5140, _PORTS)
    return Ports(ports["listen_port"], ports["status_port"], ports["metrics_port"], lines)
