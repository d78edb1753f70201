"""Ambassador: the application talks to localhost, twemproxy finds the shard (chapter 3).

twemproxy (nutcracker 0.5) hashes each key onto the ring of the topology's shard names and keeps a
few connections to every shard for all of the application's. What it cannot do: transactions,
blocking commands, publish/subscribe, SCAN and KEYS.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import (
    ConfigMap,
    ContainerArgsDict,
    ResourceRequirementsArgsDict,
    Secret,
    VolumeArgsDict,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.arguments.errors import InputError
from components.pods import labels as pod_labels
from components.pods.companion import Companion, Listener
from components.values import checks
from components.values.edges import Edge
from components.values.names import child
from components.values.ring import Ring
from components.values.topology import Shard, Topology

ROLES = ("cache", "store")
POLICIES = ("default", "seed")

_LOOPBACK = "127.0.0.1"
_FOLDER = "/etc/nutcracker"
_FILE = "nutcracker.yaml"
_SEED_HASH = "fnv1a_64"
# Above this level nutcracker writes what passes through it, keys and passwords among it.
_QUIET = 6
_PASSWORD = re.compile(r"[-._~A-Za-z0-9]{8,128}")
# A port below needs a capability.
_PORTS = (1024, 65535)
_TIMEOUTS = {"cache": 400, "store": 1000}


class TwemproxyAmbassadorArgs(TypedDict):
    """Arguments of TwemproxyAmbassador."""

    topology: Topology
    """The store, most often ``ShardedRedis.topology``. Its protocol is redis."""
    image: pulumi.Input[str]
    """Image with nutcracker and bash, with a tag or digest."""
    role: NotRequired[str]
    """``cache`` (default): a shard that keeps failing is left out for a while, its keys go to the
    others, and what they hold by then may be stale when it returns. ``store``: a shard is never
    left out; while it is gone, its keys answer errors and the others' are served."""
    policy: NotRequired[str]
    """``default``, or ``seed`` for the settings that the book prints, under which acknowledged
    writes are lost; takes no other setting but the ports, ``password`` and ``resources``."""
    password: NotRequired[pulumi.Input[str]]
    """What the shards ask for. twemproxy then asks the same of the application, which sends it
    with AUTH. By default neither does."""
    timeout_ms: NotRequired[int]
    """Milliseconds after which a connection or an answer that has not come is an error. Defaults
    to 400 for a cache, 1000 for a store."""
    server_connections: NotRequired[int]
    """Connections to each shard, from 1 to 64. Defaults to 1, which keeps the order of a client's
    commands."""
    server_failure_limit: NotRequired[int]
    """Cache only: failures in a row after which a shard is left out. Defaults to 3."""
    server_retry_timeout_ms: NotRequired[int]
    """Cache only: milliseconds for which it is left out. Defaults to 30000."""
    client_retries: NotRequired[int]
    """Cache only: how often the application repeats a command that failed. Only checked: it must
    be above the failure limit, or a command fails for good before its shard is left out."""
    listen_port: NotRequired[int]
    """Port on 127.0.0.1 for the application. Defaults to 6379."""
    stats_port: NotRequired[int]
    """Port on 127.0.0.1 that answers every connection with statistics as JSON. Defaults to
    22222."""
    stats_interval_ms: NotRequired[int]
    """Milliseconds between two states of the statistics. Defaults to 1000."""
    mbuf_bytes: NotRequired[int]
    """Size of the proxy's buffers, from 512 to 65536 bytes. A command's key, with some 80 bytes
    around it, must fit into one. Each command of a pipeline takes two at least, and what they take
    is used again but never given back. Defaults to 2048."""
    verbosity: NotRequired[int]
    """From 0 (emergencies) to 6 (every connection). Defaults to 4 (warnings). More is refused, for
    the log would show keys and the password."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits; what is left out keeps the default of every container."""
    after: NotRequired[Sequence[pulumi.Resource]]
    """What must be there before the pods, most often the store: a name that does not resolve yet
    is remembered as such by the cluster's DNS for some seconds."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace of the configuration, the same as that of the pods. Defaults to the provider's."""


class TwemproxyAmbassador(pulumi.ComponentResource):
    """A twemproxy beside the application, in front of a sharded Redis.

    Registers its configuration: an auto-named ConfigMap, or a Secret if it holds a password, so
    that a change rolls the pods. ``companion`` adds the rest to any workload.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    endpoint: str
    """``host:port`` for the application in the same pod."""
    statistics: str
    """``host:port`` that answers a container of the same pod with statistics as JSON."""
    ring: Ring
    """Where this ambassador sends each key."""

    def __init__(
        self, name: str, args: TwemproxyAmbassadorArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the configuration.

        :param name: a DNS label of at most 56 characters; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'TwemproxyAmbassador "{name}"'
        settings = _checked(where, name, args)
        super().__init__(
            "dds:index:TwemproxyAmbassador",
            name,
            {"image": args["image"], "policy": args.get("policy", "default")},
            opts,
        )
        topology = args["topology"]
        selector = pod_labels.selector("twemproxy", name, "ambassador")
        metadata: ObjectMetaArgsDict = {"labels": pod_labels.standard(selector, None)}
        if "namespace" in args:
            metadata["namespace"] = args["namespace"]
        text = settings.yaml(args.get("password"))
        child_opts = pulumi.ResourceOptions(parent=self)
        volume = child(name, "config", limit=63)
        config: ConfigMap | Secret
        mounted: VolumeArgsDict
        if "password" in args:
            config = Secret(
                name,
                metadata=metadata,
                type="Opaque",
                string_data={_FILE: pulumi.Output.secret(text)},
                immutable=True,
                opts=child_opts,
            )
            mounted = {
                "name": volume,
                "secret": {"secret_name": config.metadata["name"], "default_mode": 0o440},
            }
        else:
            config = ConfigMap(
                name, metadata=metadata, data={_FILE: text}, immutable=True, opts=child_opts
            )
            mounted = {"name": volume, "config_map": {"name": config.metadata["name"]}}
        ports = settings.ports
        self.endpoint = f"{_LOOPBACK}:{ports.listen}"
        self.statistics = f"{_LOOPBACK}:{ports.stats}"
        self.ring = Ring(settings.pool.node_names(), settings.pool.hash, settings.pool.hash_tag)
        self.companion = Companion(
            name=name,
            containers=(_container(name, args, settings, volume),),
            listeners=(
                Listener(ports.listen, "redis", _LOOPBACK),
                Listener(ports.stats, "twemproxy-stats", _LOOPBACK),
            ),
            volumes=(mounted,),
            pod_labels=dict([topology.client_label]),
            egress=(
                Edge(
                    ports=tuple(sorted({shard.port for shard in topology.shards})),
                    pods=dict(topology.server_labels),
                ),
            ),
            depends_on=(config, *args.get("after", ())),
        )
        self.register_outputs({"endpoint": self.endpoint})


@dataclasses.dataclass(frozen=True)
class Pool:
    """One pool of nutcracker's configuration, under its own names; times in milliseconds."""

    shards: Sequence[Shard]
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

    def node_names(self) -> list[str]:
        """What twemproxy hashes to place each shard on the ring."""
        if self.named:
            return [shard.name for shard in self.shards]
        return [f"{shard.host}:{shard.port}" for shard in self.shards]

    def yaml(self, password: str | None = None) -> str:
        """The configuration file."""
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
        for shard in self.shards:
            name = f" {shard.name}" if self.named else ""
            lines.append(f"  - {shard.host}:{shard.port}:1{name}")
        return "\n".join(lines) + "\n"

    def _failure(self) -> str:
        if self.auto_eject_hosts:
            return (
                f"A shard that fails {self.server_failure_limit} times in a row is left out for "
                f"{self.server_retry_timeout} ms; its keys go to the others."
            )
        return "A shard is never left out: while it is gone, its keys answer errors."


@dataclasses.dataclass(frozen=True)
class _Ports:
    listen: int
    stats: int


@dataclasses.dataclass(frozen=True)
class _Settings:
    where: str
    pool: Pool
    ports: _Ports
    stats_interval: int
    mbuf: int
    verbosity: int

    def yaml(self, password: pulumi.Input[str] | None) -> pulumi.Input[str]:
        if password is None:
            return self.pool.yaml()
        return pulumi.Output.from_input(password).apply(
            lambda value: self.pool.yaml(check_password(self.where, value))
        )


def check_password(where: str, value: Any) -> str:
    """Refuse a password that nutcracker's or Redis' configuration could read differently."""
    if not isinstance(value, str) or not _PASSWORD.fullmatch(value):
        # The value is a secret and must not be in the message.
        raise InputError(
            where,
            "password",
            "<secret>",
            "must have from 8 to 128 characters of A to Z, a to z, 0 to 9 and -._~",
        )
    return value


def _checked(where: str, name: str, args: TwemproxyAmbassadorArgs) -> _Settings:
    checks.known_arguments(where, TwemproxyAmbassadorArgs, args)
    checks.dns_label(where, "name", name, reserve=7)
    checks.image_reference(where, "image", args["image"])
    topology = args["topology"]
    if not isinstance(topology, Topology):
        raise InputError(where, "topology", topology, "must be a Topology, such as store.topology")
    if topology.protocol != "redis":
        raise InputError(
            where, "topology.protocol", topology.protocol, "must be redis for this ambassador"
        )
    ports = _Ports(
        checks.whole(where, args, "listen_port", 6379, _PORTS),
        checks.whole(where, args, "stats_port", 22222, _PORTS),
    )
    checks.different(where, {"listen_port": ports.listen, "stats_port": ports.stats})
    password = args.get("password")
    if "password" in args and password is None:
        raise InputError(where, "password", None, "must be a string, or be left out")
    if isinstance(password, str):
        check_password(where, password)
    policy = checks.one_of(where, "policy", args.get("policy", "default"), POLICIES)
    pool = _seed_pool(where, args, ports) if policy == "seed" else _pool(where, args, ports)
    return _Settings(
        where=where,
        pool=pool,
        ports=ports,
        stats_interval=checks.whole(where, args, "stats_interval_ms", 1000, (100, 3_600_000)),
        mbuf=checks.whole(where, args, "mbuf_bytes", 2048, (512, 65536)),
        verbosity=checks.whole(where, args, "verbosity", 4, (0, _QUIET)),
    )


_FIXED_BY_SEED = (
    "role", "timeout_ms", "server_connections", "server_failure_limit", "server_retry_timeout_ms",
    "client_retries",
)  # fmt: skip
_CACHE_ONLY = ("server_failure_limit", "server_retry_timeout_ms", "client_retries")


def _seed_pool(where: str, args: TwemproxyAmbassadorArgs, ports: _Ports) -> Pool:
    for argument in _FIXED_BY_SEED:
        if argument in args:
            raise InputError(
                where,
                argument,
                args[argument],  # type: ignore[literal-required]
                'must be left out: policy "seed" is what the book prints',
            )
    return Pool(args["topology"].shards, listen=f"{_LOOPBACK}:{ports.listen}")


def _pool(where: str, args: TwemproxyAmbassadorArgs, ports: _Ports) -> Pool:
    topology = args["topology"]
    role = checks.one_of(where, "role", args.get("role", "cache"), ROLES)
    if role == "store":
        for argument in _CACHE_ONLY:
            if argument in args:
                raise InputError(
                    where,
                    argument,
                    args[argument],  # type: ignore[literal-required]
                    'must be left out: with role "store" no shard is left out',
                )
    limit = checks.whole(where, args, "server_failure_limit", 3, (1, 1000))
    if (
        "client_retries" in args
        and checks.integer(where, "client_retries", args["client_retries"], minimum=0) <= limit
    ):
        raise InputError(
            where,
            "client_retries",
            args["client_retries"],
            f"must be above server_failure_limit, which is {limit}",
        )
    return Pool(
        topology.shards,
        listen=f"{_LOOPBACK}:{ports.listen}",
        hash=topology.hash,
        hash_tag=topology.hash_tag,
        auto_eject_hosts=role == "cache",
        timeout=checks.whole(where, args, "timeout_ms", _TIMEOUTS[role], (1, 600_000)),
        server_retry_timeout=checks.whole(
            where, args, "server_retry_timeout_ms", 30_000, (1, 3_600_000)
        ),
        server_failure_limit=limit,
        server_connections=checks.whole(where, args, "server_connections", 1, (1, 64)),
        preconnect=True,
        tcpkeepalive=True,
        named=True,
        title=f"twemproxy in front of {topology.name} as a {role}, for the containers of its pod.",
    )


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _container(
    name: str, args: TwemproxyAmbassadorArgs, settings: _Settings, volume: str
) -> ContainerArgsDict:
    ports = settings.ports
    container: ContainerArgsDict = {
        "name": name,
        "image": args["image"],
        "command": [
            "nutcracker",
            *("--conf-file", f"{_FOLDER}/{_FILE}"),
            # Debian's build ends without a log file that it can write.
            *("--output", "/dev/stderr"),
            *("--verbose", str(settings.verbosity)),
            *("--stats-addr", _LOOPBACK),
            *("--stats-port", str(ports.stats)),
            *("--stats-interval", str(settings.stats_interval)),
            *("--mbuf-size", str(settings.mbuf)),
        ],
        "volume_mounts": [{"name": volume, "mount_path": _FOLDER, "read_only": True}],
        # All three ask the proxy itself, never a shard: a shard that is gone must not take the
        # applications of a whole deployment with it.
        "startup_probe": {
            "exec_": {"command": _ask(ports.listen, "+PONG", "-NOAUTH")},
            "period_seconds": 1,
            "timeout_seconds": 3,
            "failure_threshold": 60,
        },
        "readiness_probe": {
            "exec_": {"command": _ask(ports.listen, "+PONG", "-NOAUTH")},
            "period_seconds": 5,
            "timeout_seconds": 3,
            "failure_threshold": 2,
        },
        "liveness_probe": {
            "exec_": {"command": _ask(ports.listen, "")},
            # While names do not resolve, the proxy waits for the resolver and answers nobody.
            "period_seconds": 10,
            "timeout_seconds": 5,
            "failure_threshold": 6,
        },
    }
    if "resources" in args:
        container["resources"] = args["resources"]
    return container


def _ask(port: int, *answers: str) -> list[str]:
    """A command that sends PING and wants one of the answers, or any if that is empty."""
    wanted = " || ".join(f"$answer == {answer}*" for answer in answers)
    script = (
        f"exec 3<>/dev/tcp/{_LOOPBACK}/{port} && printf '*1\\r\\n$4\\r\\nPING\\r\\n' >&3 && "
        f"read -r -t 4 answer <&3 && [[ {wanted} ]]"
    )
    return ["bash", "-c", script]
