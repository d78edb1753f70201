"""Election: of all replicas of an application, one leads at a time (chapter 9).

The application runs beside an elector, asks it on localhost who leads, and gives the token that it
gets with every write that only the leader may make. What the elector believes ends before what the
store has granted, but only a store that refuses older tokens is safe from a leader that was paused
between asking and writing.
"""

import dataclasses
from typing import Annotated, Any, NotRequired, TypedDict, cast

import pulumi
from pulumi_kubernetes.coordination.v1 import Lease
from pulumi_kubernetes.core.v1 import ContainerArgsDict, Secret, VolumeArgsDict

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
from components.arguments.declared import read
from components.arguments.engine import resolve
from components.arguments.images import Image
from components.arguments.names import check_name
from components.arguments.place import Place
from components.pods import labels as pod_labels
from components.pods.companion import Companion, Listener, Rule
from components.pods.hosting import CompanionHosting, object_metadata, with_resources
from components.pods.on_change import OnChangeArgs, check_change
from components.serving.etcd_settings import KeyPrefix
from components.values.names import AUTONAME, child
from components.values.peers import Clients
from components.values.reach import Credentials, Reach, speaking

BACKENDS = ("etcd", "lease")
SHORTEST_TTL = 2
"""Seconds; etcd grants no shorter lease."""

_LOOPBACK = "127.0.0.1"
_FOLDER = "/etc/elector"
_CA, _PASSWORD = "ca.crt", "password"
_LONGEST_TTL = 3600
# Two clocks that run at different speeds, and the answer's way to the application.
_LEAST_MARGIN = 0.1
_LEAST_MARGIN_PART = 0.02
# A busy machine stops any process for about so long.
_SHORTEST_SILENCE = 1


class ElectionArgs(TypedDict):
    """Arguments of Election."""

    image: Later[Image]
    """The project's image ``elector``."""
    backend: NotRequired[Annotated[str, one_of(*BACKENDS), Default("etcd")]]
    """``etcd``, or ``lease`` for a Kubernetes Lease, which needs no etcd beside the cluster's own.
    They differ in the token and in who measures the time: see docs/patterns/election.md."""
    store: NotRequired[Annotated[Reach, speaking("etcd")]]
    """With etcd: how a user reaches it, most often ``EtcdCluster.user(...)``. It must have the user's
    credentials, the authority, and as its path the beginning of the keys."""
    ttl_seconds: NotRequired[Annotated[int, between(SHORTEST_TTL, _LONGEST_TTL), Default(15)]]
    """Seconds after which a leader that is not heard of has lost."""
    renew_seconds: NotRequired[
        Annotated[float, between(0.1, _LONGEST_TTL // 2), DefaultsTo("a third of the TTL")]
    ]
    """Seconds from one renewal to the next, at most half the TTL."""
    margin_seconds: NotRequired[
        Annotated[
            float,
            between(_LEAST_MARGIN, _LONGEST_TTL // 4),
            DefaultsTo("a tenth of the TTL, at least 0.2"),
        ]
    ]
    """Seconds by which the leader stops believing before the store lets go: at least 2 % of the TTL,
    at most a quarter of it."""
    worker_seconds: NotRequired[Annotated[float, between(_SHORTEST_SILENCE, _LONGEST_TTL)]]
    """Seconds without a question of the application (``GET /``, ``POST /resign`` or ``/campaign``)
    after which it counts as gone: its elector gives leadership up and does not campaign until it is
    asked again, nor before it is asked at all. No answer is good for longer. By default an
    application may be silent, for one that waits for ``on_change`` or listens to ``/events`` may ask
    nothing for as long as nothing changes, and neither shows that it works."""
    on_change: NotRequired[OnChangeArgs]
    """By default the application is not told, it asks or listens to ``/events``."""
    port: NotRequired[Annotated[UnprivilegedPort, Default(4040)]]
    """Port on 127.0.0.1 for the application."""
    metrics_port: NotRequired[Annotated[UnprivilegedPort, Default(4041)]]
    """Port for the kubelet and Prometheus, where nothing can be changed."""
    metrics_clients: NotRequired[Clients]
    """Who may scrape; ``{}`` is every pod of the namespace. By default only the kubelet connects."""
    hosting: NotRequired[Annotated[CompanionHosting, Default({})]]
    """Namespace, labels and resources, of which the default request of memory is 48Mi."""


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
        args = _checked(f'Election "{name}"', name, args)
        elector = _Elector(name, args)
        super().__init__(
            "dds:index:Election",
            name,
            {
                "image": args["image"],
                "backend": args["backend"],
                "ttl_seconds": args["ttl_seconds"],
            },
            opts,
        )
        metadata = object_metadata(
            pod_labels.selector("elector", name, "election"), args["hosting"]
        )
        own = pulumi.ResourceOptions(parent=self)
        self.endpoint = f"{_LOOPBACK}:{args['port']}"
        volumes: tuple[VolumeArgsDict, ...] = ()
        rules: tuple[Rule, ...] = ()
        kept: pulumi.Resource
        if args["backend"] == "etcd":
            store, credentials = _known(args)
            kept = Secret(
                name,
                metadata=metadata,
                type="Opaque",
                string_data={
                    _CA: cast(pulumi.Input[str], store.authority),
                    _PASSWORD: pulumi.Output.secret(credentials.password),
                },
                immutable=True,
                opts=own,
            )
            self.key = pulumi.Output.from_input(f"{store.path}{name}")
            volumes = (
                {
                    "name": elector.volume,
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
            containers=(elector.container(self.key),),
            listeners=(
                Listener(args["port"], "elector", _LOOPBACK),
                Listener(
                    args["metrics_port"],
                    "elector-metrics",
                    clients=tuple(args["metrics_clients"]),
                ),
            ),
            volumes=volumes,
            reaches=(args["store"],) if "store" in args else (),
            share_process_namespace="signal" in args.get("on_change", {}),
            rules=rules,
            depends_on=(kept,),
        )
        self.register_outputs({"endpoint": self.endpoint, "key": self.key})


@dataclasses.dataclass(frozen=True)
class _Elector:
    """The container of one election."""

    name: str
    args: ElectionArgs

    @property
    def volume(self) -> str:
        return child(self.name, "store", limit=63)

    def container(self, key: pulumi.Input[str]) -> ContainerArgsDict:
        container: dict[str, Any] = {
            "name": self.name,
            "image": self.args["image"],
            "command": ["python3", "-m", "elector", *self._flags(key)],
            "resources": self.args["hosting"]["resources"],
            # The application may start as soon as it can be told that nobody is known to lead.
            "startup_probe": self._probe("/healthz", 1, 3, 120),
            # A follower is ready. So is who has lost touch with the store: he knows that he does
            # not lead, and a store that is gone must not take the whole service with it.
            "readiness_probe": self._probe("/readyz", 5, 3, 2),
            "liveness_probe": self._probe("/healthz", 10, 5, 6),
        }
        if self.args["backend"] == "etcd":
            container["volume_mounts"] = [
                {"name": self.volume, "mount_path": _FOLDER, "read_only": True}
            ]
        return cast(ContainerArgsDict, container)

    def _probe(self, path: str, period: int, timeout: int, failures: int) -> dict[str, Any]:
        return {
            "http_get": {"path": path, "port": self.args["metrics_port"]},
            "period_seconds": period,
            "timeout_seconds": timeout,
            "failure_threshold": failures,
        }

    def _flags(self, key: pulumi.Input[str]) -> list[pulumi.Input[str]]:
        args = self.args
        flags: list[pulumi.Input[str]] = [
            *("--backend", args["backend"]),
            *("--election", self.name),
            *("--key", key),
            *("--ttl", _digits(args["ttl_seconds"])),
            *("--renew", _digits(args["renew_seconds"])),
            *("--margin", _digits(args["margin_seconds"])),
            *("--port", str(args["port"])),
            *("--metrics-port", str(args["metrics_port"])),
        ]
        if "worker_seconds" in args:
            flags += ["--worker-seconds", _digits(args["worker_seconds"])]
        if self.args["backend"] == "etcd":
            store, credentials = _known(args)
            for endpoint in store.endpoints:
                flags += ["--endpoint", pulumi.Output.concat("https://", endpoint)]
            flags += [
                *("--ca-file", f"{_FOLDER}/{_CA}"),
                *("--username", credentials.username),
                *("--password-file", f"{_FOLDER}/{_PASSWORD}"),
            ]
        change = args.get("on_change", {})
        if "url" in change:
            flags += ["--on-change-url", change["url"]]
        if "signal" in change:
            flags += ["--on-change-signal", change["signal"]]
            flags += ["--on-change-process", change["process"]]
        return flags


def _checked(where: str, name: str, args: ElectionArgs) -> ElectionArgs:
    check_name(where, name, reserve=AUTONAME)
    args = resolved(where, ElectionArgs, args)
    _check_store(where, args)
    ttl = args["ttl_seconds"]
    renew = args.setdefault("renew_seconds", _rounded(ttl / 3))
    if renew > ttl / 2:
        raise InputError(
            where,
            "renew_seconds",
            renew,
            f"must be at most {ttl / 2:g}, half of ttl_seconds: a renewal that fails must be tried "
            "again in time",
        )
    margin = args.setdefault("margin_seconds", max(_rounded(ttl / 10), 2 * _LEAST_MARGIN))
    least, most = max(_LEAST_MARGIN, _rounded(ttl * _LEAST_MARGIN_PART)), ttl / 4
    if not least <= margin <= most:
        raise InputError(
            where,
            "margin_seconds",
            margin,
            f"must be from {least} to {most} with ttl_seconds {ttl}",
        )
    if args["port"] == args["metrics_port"]:
        raise InputError(where, "metrics_port", args["metrics_port"], "must differ from port")
    if "on_change" in args:
        check_change(where, args["on_change"])
    args["hosting"] = with_resources(where, args["hosting"], requests={"memory": "48Mi"})
    return args


def _rounded(seconds: float) -> float:
    return round(seconds, 3)


def _digits(seconds: float) -> str:
    """All of them: ``:g`` would keep six."""
    return str(int(seconds)) if seconds == int(seconds) else repr(float(seconds))


def _check_store(where: str, args: ElectionArgs) -> None:
    store = args.get("store")
    if args["backend"] == "lease":
        if store is not None:
            raise InputError(
                where,
                "store",
                store.name,
                'must be left out: with backend "lease" the cluster\'s API is the store',
            )
        return
    if store is None:
        raise InputError(
            where, "store", None, 'must be given with backend "etcd", such as cluster.user(...)'
        )
    if store.credentials is None or not store.credentials.username:
        raise InputError(
            where,
            "store.credentials",
            None,
            "must be there, with the name of a user, as cluster.user(...) gives them",
        )
    if store.authority is None:
        raise InputError(
            where, "store.authority", None, "must be given: the members' certificates are its own"
        )
    resolve(Place(where, "store.path"), read(KeyPrefix), store.path)


def _known(args: ElectionArgs) -> tuple[Reach, Credentials]:
    """The store and who may write there, as they were checked."""
    return args["store"], cast(Credentials, args["store"].credentials)
