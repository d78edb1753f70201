"""Leader election: of all replicas of an application, one leads at a time (chapter 9).

An elector runs as a sidecar. The application queries it on localhost for the leader, and sends the
fencing token from the answer with every write that only the leader may make. The elector gives
leadership up before its lease in the store expires, but only a store that refuses older tokens is
safe from a leader that was paused between the query and the write.
"""

import dataclasses
from typing import Annotated, Any, NotRequired, cast

import pulumi
from pulumi_kubernetes.coordination.v1 import Lease

from dds_patterns.arguments import Default, DefaultsTo, InputError, Later, between, one_of, resolved
from dds_patterns.arguments.addresses import UnprivilegedPort
from dds_patterns.arguments.declared import read
from dds_patterns.arguments.engine import resolved_value
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import check_name
from dds_patterns.arguments.place import Place
from dds_patterns.arguments.together import different
from dds_patterns.pods.companion import LOOPBACK, Companion, Rule
from dds_patterns.pods.hosting import CompanionHosting, with_resources
from dds_patterns.pods.images import image_of
from dds_patterns.pods.on_change import OnChangeArgs, check_change
from dds_patterns.serving.etcd_settings import KeyPrefix
from dds_patterns.values.metrics import ScrapeJob
from dds_patterns.values.reach import Credentials, Reach, speaking
from dds_patterns.workloads.program import RESERVE, Program, ScrapedArgs

BACKENDS = ("etcd", "lease")
SHORTEST_TTL = 2
"""Seconds; etcd grants no shorter lease."""

_CA, _PASSWORD = "/etc/elector/ca.crt", "/etc/elector/password"
_LONGEST_TTL = 3600
# For clock drift, and for the time that the answer takes to the application.
_LEAST_MARGIN = 0.1
_LEAST_MARGIN_PART = 0.02
# A busy machine can pause any process for about as long.
_SHORTEST_SILENCE = 1


class ElectionArgs(ScrapedArgs):
    """Arguments of Election."""

    image: NotRequired[Annotated[Later[Image], image_of("elector")]]
    """The project's image ``elector``."""
    backend: NotRequired[Annotated[str, one_of(*BACKENDS), Default("etcd")]]
    """``etcd``, or ``lease`` for a Kubernetes Lease, which needs no etcd beside the cluster's own.
    They differ in the token and in who measures the time: see docs/patterns/election.md."""
    store: NotRequired[Annotated[Reach, speaking("etcd")]]
    """With etcd: the reach of one of its users, most often ``EtcdCluster.user(...)``. It must have the
    user's credentials, the authority, and the key prefix as its path."""
    ttl_seconds: NotRequired[Annotated[int, between(SHORTEST_TTL, _LONGEST_TTL), Default(15)]]
    """Seconds without a renewal after which a leader loses its lease."""
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
    """Seconds before the lease expires in the store at which the elector gives leadership up: from 2 %
    to a quarter of the TTL."""
    worker_seconds: NotRequired[Annotated[float, between(_SHORTEST_SILENCE, _LONGEST_TTL)]]
    """Seconds without a request from the application (``GET /``, ``POST /resign`` or ``/campaign``)
    after which it counts as dead: its elector gives leadership up, and campaigns only after the next
    request. It also waits for the first one. No answer is valid for longer. By default no requests
    are needed: an application that relies on ``on_change`` or ``/events`` may send none while
    nothing changes, and neither proves that it is alive."""
    on_change: NotRequired[OnChangeArgs]
    """How the elector notifies the application. By default it does not: the application polls or
    listens to ``/events``."""
    port: NotRequired[Annotated[UnprivilegedPort, Default(4040)]]
    """Port on 127.0.0.1 for the application."""
    metrics_port: NotRequired[Annotated[UnprivilegedPort, Default(4041)]]
    """Read-only port for the kubelet and Prometheus."""
    hosting: NotRequired[Annotated[CompanionHosting, Default({})]]
    """Namespace, labels and resources; the default memory request is 48Mi."""


class Election(pulumi.ComponentResource):
    """A leader election, and the companion with which the pods of a workload take part.

    Registers, for etcd, a Secret with the authority's certificate and the user's password; for a
    Lease, the Lease, and a Role for the workload's ServiceAccount that covers it alone; and a
    headless Service by which Prometheus finds every candidate. All replicas of one workload should
    be candidates, and no other workload.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    endpoint: pulumi.Output[str]
    """``host:port`` for the application in the same pod."""
    key: pulumi.Output[str]
    """etcd's key, or the Lease's name."""
    job: ScrapeJob
    """What Prometheus scrapes."""

    def __init__(
        self, name: str, args: ElectionArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the election.

        :param name: a DNS label of at most 50 characters; names the container
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'Election "{name}"'
        args = _checked(where, name, args)
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
        own = pulumi.ResourceOptions(parent=self)
        self.endpoint = Reach.local(args["port"]).endpoint
        program = _program(where, name, args)
        access: dict[str, Any]
        if args["backend"] == "etcd":
            store, credentials = _known(args)
            self.key = pulumi.Output.from_input(f"{store.path}{name}")
            secrets = {_CA: store.authority, _PASSWORD: credentials.password}
            access = {"secret_files": secrets, "reaches": (store,)}
        else:
            # Only its metadata is declared here: the electors own the rest.
            lease = Lease(name, metadata=program.metadata, opts=own)
            self.key = lease.metadata["name"]
            rule = Rule(
                group="coordination.k8s.io",
                resources=("leases",),
                verbs=("get", "watch", "update"),
                names=(self.key,),
            )
            access = {"rules": (rule,), "depends_on": (lease,)}
        command = ["python3", "-m", "elector", *_flags(name, args, self.key)]
        self.companion = dataclasses.replace(program, command=command, **access).companion(own)
        self.job = program.job(own)
        self.register_outputs({"endpoint": self.endpoint, "key": self.key})


def _program(where: str, name: str, args: ElectionArgs) -> Program:
    return Program(
        where,
        name,
        application="elector",
        part="election",
        image=args["image"],
        hosting=args["hosting"],
        ports=[
            {"name": "elector", "port": args["port"], "address": LOOPBACK},
        ],
        metrics={
            "name": "elector-metrics",
            "port": args["metrics_port"],
            "clients": args["metrics_clients"],
        },
        # The application may start as soon as the elector answers, even if it knows no leader.
        startup={"path": "/healthz"},
        # A follower is ready. So is an elector that cannot reach the store: it knows that it does not
        # lead, and an outage of the store must not make every replica unready.
        readiness={"path": "/readyz"},
        liveness={"path": "/healthz"},
        share_process_namespace="signal" in args.get("on_change", {}),
    )


def _flags(name: str, args: ElectionArgs, key: pulumi.Input[str]) -> list[pulumi.Input[str]]:
    flags: list[pulumi.Input[str]] = [
        *("--backend", args["backend"]),
        *("--election", name),
        *("--key", key),
        *("--ttl", _digits(args["ttl_seconds"])),
        *("--renew", _digits(args["renew_seconds"])),
        *("--margin", _digits(args["margin_seconds"])),
        *("--port", str(args["port"])),
        *("--metrics-port", str(args["metrics_port"])),
    ]
    if "worker_seconds" in args:
        flags += ["--worker-seconds", _digits(args["worker_seconds"])]
    if args["backend"] == "etcd":
        store, credentials = _known(args)
        for endpoint in store.endpoints:
            flags += ["--endpoint", pulumi.Output.concat("https://", endpoint)]
        flags += [
            *("--ca-file", _CA),
            *("--username", credentials.username),
            *("--password-file", _PASSWORD),
        ]
    change = args.get("on_change", {})
    if "url" in change:
        flags += ["--on-change-url", change["url"]]
    if "signal" in change:
        flags += ["--on-change-signal", change["signal"]]
        flags += ["--on-change-process", change["process"]]
    return flags


def _checked(where: str, name: str, args: ElectionArgs) -> ElectionArgs:
    check_name(where, name, reserve=RESERVE, service=True)
    args = resolved(where, ElectionArgs, args)
    _check_store(where, args)
    ttl = args["ttl_seconds"]
    renew = args.setdefault("renew_seconds", _rounded(ttl / 3))
    if renew > ttl / 2:
        raise InputError(
            where,
            "renew_seconds",
            renew,
            f"must be at most {ttl / 2:g}, half of ttl_seconds: a failed renewal must be retried "
            "before the lease expires",
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
    different(where, args, "port", "metrics_port")
    if "on_change" in args:
        check_change(where, args["on_change"])
    args["hosting"] = with_resources(where, args["hosting"], requests={"memory": "48Mi"})
    return args


def _rounded(seconds: float) -> float:
    return round(seconds, 3)


def _digits(seconds: float) -> str:
    """The number with all its digits: ``:g`` would keep six."""
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
            "must be given, with a username, as in cluster.user(...)",
        )
    if store.authority is None:
        raise InputError(
            where, "store.authority", None, "must be given: it issued the members' certificates"
        )
    resolved_value(Place(where, "store.path"), read(KeyPrefix), store.path)


def _known(args: ElectionArgs) -> tuple[Reach, Credentials]:
    """The store and the credentials for it, as they were checked."""
    return args["store"], cast(Credentials, args["store"].credentials)
