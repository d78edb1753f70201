"""Ambassador: the application talks to localhost, twemproxy finds the shard (chapter 3).

twemproxy (nutcracker 0.5) hashes each key onto the ring of the topology's shard names and keeps a
few connections to every shard for all of the application's. What it cannot do: transactions,
blocking commands, publish/subscribe, SCAN and KEYS.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict, cast

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap, ContainerArgsDict, Secret, VolumeArgsDict

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
from components.arguments.together import different
from components.pods.companion import Companion, Listener
from components.pods.hosting import CompanionHosting
from components.single_node import configured
from components.values.names import child
from components.values.reach import Reach, speaking
from components.values.ring import Ring
from components.values.topology import Topology

ROLES = ("cache", "store")

_LOOPBACK = "127.0.0.1"
_FOLDER = "/etc/nutcracker"
_FILE = "nutcracker.yaml"
_SEED_HASH = "fnv1a_64"
_TIMEOUTS = {"cache": 400, "store": 1000}
# Above this level nutcracker writes what passes through it, keys and passwords among it.
_QUIET = 6


class TwemproxyAmbassadorArgs(TypedDict):
    """Arguments of TwemproxyAmbassador."""

    store: Annotated[Reach, speaking("redis", sharded=True)]
    """The store, most often ``ShardedRedis.reach``. With a password among its credentials, twemproxy
    asks the same of the application, which sends it with AUTH. A proxy of shards reads no IPv6
    addresses."""
    image: Later[Image]
    """Image with nutcracker and bash."""
    role: NotRequired[Annotated[str, one_of(*ROLES), Default("cache")]]
    """``cache``: a shard that keeps failing is left out for a while, its keys go to the others, and
    what they hold by then may be stale when it returns. ``store``: a shard is never left out; while
    it is gone, its keys answer errors and the others' are served."""
    policy: NotRequired[Annotated[str, one_of("default", "seed"), Default("default")]]
    """``seed`` is for the settings that the book prints, under which acknowledged writes are lost;
    it takes no other setting but the ports and ``resources``."""
    timeout_ms: NotRequired[
        Annotated[int, between(1, 600_000), DefaultsTo("400 for a cache, 1000 for a store")]
    ]
    """Milliseconds after which a connection or an answer that has not come is an error."""
    server_connections: NotRequired[Annotated[int, between(1, 64), Default(1)]]
    """Connections to each shard. One keeps the order of a client's commands."""
    server_failure_limit: NotRequired[Annotated[int, between(1, 1000), Default(3)]]
    """Cache only: failures in a row after which a shard is left out."""
    server_retry_timeout_ms: NotRequired[Annotated[int, between(1, 3_600_000), Default(30_000)]]
    """Cache only: milliseconds for which it is left out."""
    client_retries: NotRequired[Annotated[int, between(0)]]
    """Cache only: how often the application repeats a command that failed. Only checked: it must
    be above the failure limit, or a command fails for good before its shard is left out."""
    listen_port: NotRequired[Annotated[UnprivilegedPort, Default(6379)]]
    """Port on 127.0.0.1 for the application."""
    stats_port: NotRequired[Annotated[UnprivilegedPort, Default(22222)]]
    """Port on 127.0.0.1 that answers every connection with statistics as JSON."""
    stats_interval_ms: NotRequired[Annotated[int, between(100, 3_600_000), Default(1000)]]
    """Milliseconds between two states of the statistics."""
    mbuf_bytes: NotRequired[Annotated[int, between(512, 65536), Default(2048)]]
    """Size of the proxy's buffers in bytes. A command's key, with some 80 bytes around it, must fit
    into one. Each command of a pipeline takes two at least, and what they take is used again but
    never given back."""
    verbosity: NotRequired[Annotated[int, between(0, _QUIET), Default(4)]]
    """From emergencies (0) over warnings (4) to every connection (6). With more the log would show
    keys and the password."""
    hosting: NotRequired[Annotated[CompanionHosting, Default({})]]
    """Namespace, labels and resources."""


class TwemproxyAmbassador(pulumi.ComponentResource):
    """A twemproxy beside the application, in front of a sharded Redis.

    Registers its configuration: an auto-named ConfigMap, or a Secret if it holds a password, so
    that a change rolls the pods. ``companion`` adds the rest to any workload.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    endpoint: str
    """``host:port`` for the application in the same pod."""
    reach: Reach
    """The same for a companion, with what it is asked for."""
    statistics: Reach
    """What answers every connection of a container of the same pod with statistics as JSON."""
    ring: pulumi.Output[Ring]
    """Where this ambassador sends each key."""

    def __init__(
        self, name: str, args: TwemproxyAmbassadorArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the configuration.

        :param name: a DNS label of at most 56 characters; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        args, pool = _checked(f'TwemproxyAmbassador "{name}"', name, args)
        super().__init__(
            "dds:index:TwemproxyAmbassador",
            name,
            {"image": args["image"], "policy": args["policy"]},
            opts,
        )
        store = args["store"]
        metadata = configured.metadata("twemproxy", name, "ambassador", args["hosting"])
        child_opts = pulumi.ResourceOptions(parent=self)
        volume = child(name, "config", limit=63)
        config: ConfigMap | Secret
        mounted: VolumeArgsDict
        if store.credentials is not None:
            password = pulumi.Output.secret(store.credentials.password)
            config = Secret(
                name,
                metadata=metadata,
                type="Opaque",
                string_data={_FILE: pool.yaml(store.endpoints, password)},
                immutable=True,
                opts=child_opts,
            )
            mounted = {
                "name": volume,
                "secret": {"secret_name": config.metadata["name"], "default_mode": 0o440},
            }
        else:
            config = ConfigMap(
                name,
                metadata=metadata,
                data={_FILE: pool.yaml(store.endpoints)},
                immutable=True,
                opts=child_opts,
            )
            mounted = {"name": volume, "config_map": {"name": config.metadata["name"]}}
        self.endpoint = f"{_LOOPBACK}:{args['listen_port']}"
        self.reach = dataclasses.replace(
            Reach.local(args["listen_port"], app_protocol="redis"), credentials=store.credentials
        )
        self.statistics = Reach.local(args["stats_port"])
        self.ring = pool.ring(store.endpoints)
        self.companion = Companion(
            name=name,
            containers=(_container(name, args, volume),),
            listeners=(
                Listener(args["listen_port"], "redis", _LOOPBACK),
                Listener(args["stats_port"], "twemproxy-stats", _LOOPBACK),
            ),
            volumes=(mounted,),
            reaches=(store,),
            depends_on=(config,),
        )
        self.register_outputs({"endpoint": self.endpoint})


@dataclasses.dataclass(frozen=True)
class Pool:
    """One pool of nutcracker's configuration, under its own names; times in milliseconds."""

    where: str
    """What errors name."""
    shards: Sequence[str]
    """Names of the shards."""
    listen: str = f"{_LOOPBACK}:6379"
    hash: str = _SEED_HASH
    hash_tag: str = ""
    auto_eject_hosts: bool = True
    timeout: int = 400
    server_retry_timeout: int = 2000
    server_failure_limit: int = 1
    server_connections: int | None = None
    preconnect: bool = False
    tcpkeepalive: bool = False
    named: bool = False
    """Whether shards stand on the ring by their names rather than by host:port."""
    title: str = ""

    def ring(self, endpoints: Sequence[pulumi.Input[str]]) -> pulumi.Output[Ring]:
        """Where twemproxy puts each key; known at once where the shards have names there."""
        if self.named:
            return pulumi.Output.from_input(Ring(self.shards, self.hash, self.hash_tag))
        return pulumi.Output.all(*endpoints).apply(
            lambda known: Ring(known, self.hash, self.hash_tag)
        )

    def yaml(
        self, endpoints: Sequence[pulumi.Input[str]], password: pulumi.Input[str] | None = None
    ) -> pulumi.Output[str]:
        """The configuration file.

        :param endpoints: of the shards, ``host:port``
        """
        return pulumi.Output.all(password, *endpoints).apply(
            lambda known: self.text(known[1:], known[0])
        )

    def text(self, endpoints: Sequence[str], password: str | None = None) -> str:
        """The same for what is known; InputError for an IPv6 address."""
        _check_hosts(self.where, endpoints)
        lines: list[str] = []
        if self.title:
            lines.append(f"# {self.title}")
        lines += ["redis:", f"  listen: {self.listen}"]
        if password is not None:
            lines += [
                "  # Sent to the shards, and asked of the application.",
                f'  redis_auth: "{password}"',
            ]
        if self.named:
            lines.append(
                "  # All proxies of this store must agree on these and on the names below."
            )
        lines += [f"  hash: {self.hash}", "  distribution: ketama"]
        if self.hash_tag:
            lines.append(f'  hash_tag: "{self.hash_tag}"')
        if self.named:
            lines.append(f"  # {self._failure()}")
        lines += [f"  auto_eject_hosts: {_truth(self.auto_eject_hosts)}", "  redis: true"]
        if self.preconnect:
            lines.append("  preconnect: true")
        if self.tcpkeepalive:
            lines.append("  tcpkeepalive: true")
        lines.append(f"  timeout: {self.timeout}")
        if self.server_connections is not None:
            lines.append(f"  server_connections: {self.server_connections}")
        if self.auto_eject_hosts:
            lines.append(f"  server_retry_timeout: {self.server_retry_timeout}")
            lines.append(f"  server_failure_limit: {self.server_failure_limit}")
        lines.append("  servers:")
        if self.named:
            lines.append("  # host:port:weight, and the name that places the shard on the ring")
        for name, endpoint in zip(self.shards, endpoints, strict=True):
            lines.append(f"  - {endpoint}:1 {name}" if self.named else f"  - {endpoint}:1")
        return "\n".join(lines) + "\n"

    def _failure(self) -> str:
        if self.auto_eject_hosts:
            return (
                f"A shard that fails {self.server_failure_limit} times in a row is left out for "
                f"{self.server_retry_timeout} ms; its keys go to the others."
            )
        return "A shard is never left out: while it is gone, its keys answer errors."


_CACHE_ONLY = ("server_failure_limit", "server_retry_timeout_ms", "client_retries")
_FIXED_BY_SEED = ("role", "timeout_ms", "server_connections", *_CACHE_ONLY)


def _checked(
    where: str, name: str, given: TwemproxyAmbassadorArgs
) -> tuple[TwemproxyAmbassadorArgs, Pool]:
    check_name(where, name, reserve=7)
    args = resolved(where, TwemproxyAmbassadorArgs, given)
    store = args["store"]
    # As the constraint of the argument says.
    topology = cast(Topology, store.topology)
    _check_hosts(where, [endpoint for endpoint in store.endpoints if isinstance(endpoint, str)])
    if store.credentials is not None and store.credentials.username:
        raise InputError(
            where,
            "store.credentials.username",
            store.credentials.username,
            "must be empty: twemproxy logs in with a password alone",
        )
    different(where, {"listen_port": args["listen_port"], "stats_port": args["stats_port"]})
    listen = f"{_LOOPBACK}:{args['listen_port']}"
    if args["policy"] == "seed":
        _left_out(where, given, _FIXED_BY_SEED, 'policy "seed" is what the book prints')
        return args, Pool(where, topology.shards, listen=listen)
    if args["role"] == "store":
        _left_out(where, given, _CACHE_ONLY, 'with role "store" no shard is left out')
    limit = args["server_failure_limit"]
    if "client_retries" in args and args["client_retries"] <= limit:
        raise InputError(
            where,
            "client_retries",
            args["client_retries"],
            f"must be above server_failure_limit, which is {limit}",
        )
    return args, Pool(
        where,
        topology.shards,
        listen=listen,
        hash=topology.hash,
        hash_tag=topology.hash_tag,
        auto_eject_hosts=args["role"] == "cache",
        timeout=args.get("timeout_ms", _TIMEOUTS[args["role"]]),
        server_retry_timeout=args["server_retry_timeout_ms"],
        server_failure_limit=limit,
        server_connections=args["server_connections"],
        preconnect=True,
        tcpkeepalive=True,
        named=True,
        title=(
            f"twemproxy in front of {store.name} as a {args['role']}, for the containers of its "
            "pod."
        ),
    )


def _check_hosts(where: str, endpoints: Sequence[str]) -> None:
    for endpoint in endpoints:
        if endpoint.startswith("["):
            raise InputError(
                where,
                "store.endpoints",
                endpoint,
                "must have a host name or an IPv4 address: proxies of shards read no IPv6 address",
            )


def _left_out(where: str, given: Mapping[str, Any], keys: Sequence[str], because: str) -> None:
    for argument in keys:
        if given.get(argument) is not None:
            raise InputError(where, argument, given[argument], f"must be left out: {because}")


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _container(name: str, args: TwemproxyAmbassadorArgs, volume: str) -> ContainerArgsDict:
    return {
        "name": name,
        "image": args["image"],
        "command": [
            "nutcracker",
            *("--conf-file", f"{_FOLDER}/{_FILE}"),
            # Debian's build ends without a log file that it can write.
            *("--output", "/dev/stderr"),
            *("--verbose", str(args["verbosity"])),
            *("--stats-addr", _LOOPBACK),
            *("--stats-port", str(args["stats_port"])),
            *("--stats-interval", str(args["stats_interval_ms"])),
            *("--mbuf-size", str(args["mbuf_bytes"])),
        ],
        "volume_mounts": [{"name": volume, "mount_path": _FOLDER, "read_only": True}],
        # All three ask the proxy itself, never a shard: a shard that is gone must not take the
        # applications of a whole deployment with it.
        "startup_probe": {
            "exec_": {"command": _ask(args["listen_port"], "+PONG", "-NOAUTH")},
            "period_seconds": 1,
            "timeout_seconds": 3,
            "failure_threshold": 60,
        },
        "readiness_probe": {
            "exec_": {"command": _ask(args["listen_port"], "+PONG", "-NOAUTH")},
            "period_seconds": 5,
            "timeout_seconds": 3,
            "failure_threshold": 2,
        },
        "liveness_probe": {
            "exec_": {"command": _ask(args["listen_port"], "")},
            # While names do not resolve, the proxy waits for the resolver and answers nobody.
            "period_seconds": 10,
            "timeout_seconds": 5,
            "failure_threshold": 6,
        },
        "resources": args["hosting"]["resources"],
    }


def _ask(port: int, *answers: str) -> list[str]:
    """A command that sends PING and wants one of the answers, or any if that is empty."""
    wanted = " || ".join(f"$answer == {answer}*" for answer in answers)
    script = (
        f"exec 3<>/dev/tcp/{_LOOPBACK}/{port} && printf '*1\\r\\n$4\\r\\nPING\\r\\n' >&3 && "
        f"read -r -t 4 answer <&3 && [[ {wanted} ]]"
    )
    return ["bash", "-c", script]
