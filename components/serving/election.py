"""Election: of all replicas of an application, one leads at a time (chapter 9).

The application runs beside an elector, asks it on localhost who leads, and gives the token that it
gets with every write that only the leader may make. What the elector believes ends before what the
store has granted, but only a store that refuses older tokens is safe from a leader that was paused
between asking and writing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

import pulumi
from pulumi_kubernetes.coordination.v1 import Lease
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    ResourceRequirementsArgsDict,
    Secret,
    VolumeArgsDict,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.arguments.errors import InputError
from components.pods import labels as pod_labels
from components.pods.companion import Companion, Listener, Rule
from components.pods.on_change import OnChangeArgs, check_change
from components.values import checks
from components.values.edges import Edge
from components.values.etcd import EtcdTopology, EtcdUser
from components.values.names import AUTONAME, child

BACKENDS = ("etcd", "lease")
SHORTEST_TTL = 2
"""Seconds; etcd grants no shorter lease."""

_LOOPBACK = "127.0.0.1"
_FOLDER = "/etc/elector"
_CA, _PASSWORD = "ca.crt", "password"
_LONGEST_TTL = 3600
# Two clocks that run at different speeds, and the answer's way to the application.
_LEAST_MARGIN = 0.1
_LEAST_MARGIN_PART, _MOST_MARGIN_PART = 0.02, 0.25
# A busy machine stops any process for about so long.
_SHORTEST_SILENCE = 1
_PORTS = (1024, 65535)


class ElectionArgs(TypedDict):
    """Arguments of Election."""

    image: pulumi.Input[str]
    """The project's image ``elector``, with a tag or digest."""
    backend: NotRequired[str]
    """``etcd`` (default), or ``lease`` for a Kubernetes Lease, which needs no etcd beside the
    cluster's own. They differ in the token and in who measures the time: see
    docs/patterns/election.md."""
    store: NotRequired[EtcdTopology]
    """With etcd: where it is, most often ``EtcdCluster.topology``."""
    user: NotRequired[EtcdUser]
    """With etcd: who may write there, most often ``EtcdCluster.user(...)``."""
    ttl_seconds: NotRequired[int]
    """Seconds after which a leader that is not heard of has lost, from 2 to 3600. Defaults to
    15."""
    renew_seconds: NotRequired[float]
    """Seconds from one renewal to the next, at most half the TTL. Defaults to a third of it."""
    margin_seconds: NotRequired[float]
    """Seconds by which the leader stops believing before the store lets go: at least 0.1 and 2 %
    of the TTL, at most a quarter of it. Defaults to a tenth, at least 0.2."""
    worker_seconds: NotRequired[float]
    """Seconds, from 1 to 3600, without a question of the application (``GET /``, ``POST /resign``
    or ``/campaign``) after which it counts as gone: its elector gives leadership up and does not
    campaign until it is asked again, nor before it is asked at all. No answer is good for longer.
    By default an application may be silent, for one that waits for ``on_change`` or listens to
    ``/events`` may ask nothing for as long as nothing changes, and neither shows that it works."""
    on_change: NotRequired[OnChangeArgs]
    """By default the application is not told, it asks or listens to ``/events``."""
    port: NotRequired[int]
    """Port on 127.0.0.1 for the application. Defaults to 4040."""
    metrics_port: NotRequired[int]
    """Port for the kubelet and Prometheus, where nothing can be changed. Defaults to 4041."""
    metrics_clients: NotRequired[Sequence[Mapping[str, str]]]
    """Labels of pods that may reach the metrics; an empty mapping is every pod. By default nobody
    may (the kubelet always can)."""
    metrics_namespace: NotRequired[Mapping[str, str]]
    """Labels of the namespace in which ``metrics_clients`` are. Defaults to the workload's own."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits; what is left out keeps the default of every container, but for the
    memory's request, 48Mi."""
    after: NotRequired[Sequence[pulumi.Resource]]
    """What must be there before the pods."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace, the same as that of the pods. Defaults to the provider's."""


class Election(pulumi.ComponentResource):
    """An election, and the companion with which the pods of a workload take part.

    Registers, for etcd, a Secret with the authority's certificate and the user's password; for a
    Lease, the Lease, for which the workload's ServiceAccount gets a Role that covers it alone. All
    replicas of one workload should take part, and no other workload.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    endpoint: str
    """``host:port`` for the application in the same pod."""
    key: pulumi.Output[str]
    """etcd's key, or the Lease's name."""

    def __init__(
        self, name: str, args: ElectionArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the election.

        :param name: a DNS label of at most 54 characters; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        settings = _checked(f'Election "{name}"', name, args)
        super().__init__(
            "dds:index:Election",
            name,
            {"image": args["image"], "backend": settings.backend, "ttl_seconds": settings.ttl},
            opts,
        )
        metadata: ObjectMetaArgsDict = {
            "labels": pod_labels.standard(pod_labels.selector("elector", name, "election"), None)
        }
        if "namespace" in args:
            metadata["namespace"] = args["namespace"]
        own = pulumi.ResourceOptions(parent=self)
        self.endpoint = f"{_LOOPBACK}:{settings.port}"
        volumes: tuple[VolumeArgsDict, ...] = ()
        rules: tuple[Rule, ...] = ()
        kept: pulumi.Resource
        if settings.backend == "etcd":
            store, user = args["store"], args["user"]
            kept = Secret(
                name,
                metadata=metadata,
                type="Opaque",
                string_data={_CA: store.authority, _PASSWORD: pulumi.Output.secret(user.password)},
                immutable=True,
                opts=own,
            )
            self.key = pulumi.Output.from_input(f"{user.prefix}{name}")
            volume = settings.volume
            volumes = (
                {
                    "name": volume,
                    "secret": {"secret_name": kept.metadata["name"], "default_mode": 0o440},
                },
            )
        else:
            # Only its metadata is ours: the electors own the rest.
            kept = Lease(name, metadata=metadata, opts=own)
            self.key = kept.metadata["name"]
            rules = (
                Rule(
                    group="coordination.k8s.io",
                    resources=("leases",),
                    verbs=("get", "watch", "update"),
                    names=(self.key,),
                ),
            )
        self.companion = Companion(
            name=name,
            containers=(settings.container(self.key),),
            listeners=(
                Listener(settings.port, "elector", _LOOPBACK),
                Listener(settings.metrics_port, "elector-metrics"),
            ),
            volumes=volumes,
            pod_labels=dict([args["store"].client_label]) if "store" in args else {},
            egress=settings.egress(),
            ingress=settings.ingress(),
            share_process_namespace="signal" in args.get("on_change", {}),
            rules=rules,
            depends_on=(kept, *args.get("after", ())),
        )
        self.register_outputs({"endpoint": self.endpoint, "key": self.key})


@dataclasses.dataclass(frozen=True)
class _Settings:
    name: str
    args: ElectionArgs
    backend: str
    ttl: int
    renew: float
    margin: float
    worker: float | None
    port: int
    metrics_port: int

    @property
    def volume(self) -> str:
        return child(self.name, "store", limit=63)

    def egress(self) -> tuple[Edge, ...]:
        # The way to the API server comes with the rules.
        store = self.args.get("store")
        if store is None:
            return ()
        return (Edge(ports=(store.port,), pods=dict(store.server_labels)),)

    def ingress(self) -> tuple[Edge, ...]:
        return tuple(
            Edge(
                ports=(self.metrics_port,),
                pods=dict(client),
                namespace=self.args.get("metrics_namespace"),
            )
            for client in self.args.get("metrics_clients", ())
        )

    def container(self, key: pulumi.Input[str]) -> ContainerArgsDict:
        resources: dict[str, Any] = {**self.args.get("resources", {})}
        resources["requests"] = {"memory": "48Mi", **resources.get("requests", {})}
        container: dict[str, Any] = {
            "name": self.name,
            "image": self.args["image"],
            "command": ["python3", "-m", "elector", *self._flags(key)],
            "resources": resources,
            # The application may start as soon as it can be told that nobody is known to lead.
            "startup_probe": self._probe("/healthz", 1, 3, 120),
            # A follower is ready. So is who has lost touch with the store: he knows that he does
            # not lead, and a store that is gone must not take the whole service with it.
            "readiness_probe": self._probe("/readyz", 5, 3, 2),
            "liveness_probe": self._probe("/healthz", 10, 5, 6),
        }
        if self.backend == "etcd":
            container["volume_mounts"] = [
                {"name": self.volume, "mount_path": _FOLDER, "read_only": True}
            ]
        return cast(ContainerArgsDict, container)

    def _probe(self, path: str, period: int, timeout: int, failures: int) -> dict[str, Any]:
        return {
            "http_get": {"path": path, "port": self.metrics_port},
            "period_seconds": period,
            "timeout_seconds": timeout,
            "failure_threshold": failures,
        }

    def _flags(self, key: pulumi.Input[str]) -> list[pulumi.Input[str]]:
        flags: list[pulumi.Input[str]] = [
            *("--backend", self.backend),
            *("--election", self.name),
            *("--key", key),
            *("--ttl", _digits(self.ttl)),
            *("--renew", _digits(self.renew)),
            *("--margin", _digits(self.margin)),
            *("--port", str(self.port)),
            *("--metrics-port", str(self.metrics_port)),
        ]
        if self.worker is not None:
            flags += ["--worker-seconds", _digits(self.worker)]
        if self.backend == "etcd":
            for endpoint in self.args["store"].endpoints:
                flags += ["--endpoint", endpoint]
            flags += [
                *("--ca-file", f"{_FOLDER}/{_CA}"),
                *("--username", self.args["user"].username),
                *("--password-file", f"{_FOLDER}/{_PASSWORD}"),
            ]
        change = self.args.get("on_change", {})
        if "url" in change:
            flags += ["--on-change-url", change["url"]]
        if "signal" in change:
            flags += ["--on-change-signal", change["signal"]]
            flags += ["--on-change-process", change["process"]]
        return flags


def _checked(where: str, name: str, args: ElectionArgs) -> _Settings:
    checks.known_arguments(where, ElectionArgs, args)
    checks.dns_label(where, "name", name, reserve=AUTONAME)
    checks.image_reference(where, "image", args["image"])
    backend = checks.one_of(where, "backend", args.get("backend", "etcd"), BACKENDS)
    _check_store(where, backend, args)
    ttl = checks.plain(where, "ttl_seconds", args.get("ttl_seconds", 15), _DECIDES)
    ttl = checks.integer(where, "ttl_seconds", ttl, minimum=SHORTEST_TTL, maximum=_LONGEST_TTL)
    renew = checks.plain(
        where, "renew_seconds", args.get("renew_seconds", _rounded(ttl / 3)), _DECIDES
    )
    checks.number(where, "renew_seconds", renew, minimum=0.1)
    if renew > ttl / 2:
        raise InputError(
            where,
            "renew_seconds",
            renew,
            f"must be at most {ttl / 2:g}, half of ttl_seconds: a renewal that fails must be tried "
            "again in time",
        )
    default = max(_rounded(ttl / 10), 2 * _LEAST_MARGIN)
    margin = checks.plain(where, "margin_seconds", args.get("margin_seconds", default), _DECIDES)
    checks.number(
        where,
        "margin_seconds",
        margin,
        minimum=max(_LEAST_MARGIN, _rounded(ttl * _LEAST_MARGIN_PART)),
        maximum=ttl * _MOST_MARGIN_PART,
    )
    worker = None
    if "worker_seconds" in args:
        worker = checks.plain(where, "worker_seconds", args["worker_seconds"], _DECIDES)
        checks.number(
            where,
            "worker_seconds",
            worker,
            minimum=_SHORTEST_SILENCE,
            maximum=_LONGEST_TTL,
        )
    port = checks.integer(
        where, "port", args.get("port", 4040), minimum=_PORTS[0], maximum=_PORTS[1]
    )
    metrics_port = checks.integer(
        where, "metrics_port", args.get("metrics_port", 4041), minimum=_PORTS[0], maximum=_PORTS[1]
    )
    if port == metrics_port:
        raise InputError(where, "metrics_port", metrics_port, "must differ from port")
    if "metrics_namespace" in args and not args.get("metrics_clients"):
        raise InputError(
            where,
            "metrics_namespace",
            args["metrics_namespace"],
            "needs metrics_clients; an empty mapping among them is every pod there",
        )
    if "on_change" in args:
        check_change(where, args["on_change"])
    return _Settings(name, args, backend, ttl, renew, margin, worker, port, metrics_port)


_DECIDES = "it is compared with the others before anything is deployed"


def _rounded(seconds: float) -> float:
    return round(seconds, 3)


def _digits(seconds: float) -> str:
    """All of them: ``:g`` would keep six."""
    return str(int(seconds)) if seconds == int(seconds) else repr(float(seconds))


def _check_store(where: str, backend: str, args: ElectionArgs) -> None:
    store: Any = args.get("store")
    user: Any = args.get("user")
    if backend == "lease":
        for argument, value in (("store", store), ("user", user)):
            if value is not None:
                raise InputError(
                    where,
                    argument,
                    type(value).__name__,
                    'must be left out: with backend "lease" the cluster\'s API is the store',
                )
        return
    if not isinstance(store, EtcdTopology):
        raise InputError(where, "store", store, "must be an EtcdTopology, such as cluster.topology")
    if not isinstance(user, EtcdUser):
        raise InputError(where, "user", user, "must be an EtcdUser, such as cluster.user(...)")
