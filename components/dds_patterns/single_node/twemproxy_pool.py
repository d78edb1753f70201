"""Configuration of a twemproxy (nutcracker 0.5), as an ambassador or as a shared proxy.

It maps each key onto the consistent-hash ring of the topology's shard names, and its clients share
a few connections to each shard (connection pooling). It does not support transactions, blocking
commands, publish/subscribe, SCAN and KEYS of Redis; nor meta commands, the binary protocol and
statistics of memcached.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict, cast

import pulumi

from dds_patterns.arguments import Default, DefaultsTo, InputError, Later, between, one_of
from dds_patterns.arguments.addresses import UnprivilegedPort
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.together import different, left_out
from dds_patterns.pods.companion import LOOPBACK
from dds_patterns.pods.hosting import CompanionHosting
from dds_patterns.sharding import Ring
from dds_patterns.values.reach import Reach, speaking
from dds_patterns.values.topology import Topology
from dds_patterns.workloads.program import Program

ROLES = ("cache", "store")

_FILE = "/etc/nutcracker/nutcracker.yaml"
_SEED_HASH = "fnv1a_64"
_TIMEOUTS = {"cache": 400, "store": 1000}
# Above this level nutcracker logs what it proxies, including keys and passwords.
_QUIET = 6


class PoolArgs(TypedDict):
    """Arguments of components that run a twemproxy."""

    store: Annotated[Reach, speaking("redis", "memcached", sharded=True)]
    """The shards, most often ``ShardedRedis.reach`` or ``ShardSet.reach``; Redis unless its
    ``app_protocol`` is memcached. With a password among its credentials, twemproxy requires the
    same from its clients, by AUTH. IPv6 addresses are not supported."""
    image: Later[Image]
    """Image with nutcracker and bash."""
    role: NotRequired[Annotated[str, one_of(*ROLES), Default("cache")]]
    """``cache``: a shard that keeps failing is ejected for a while; its keys go to the other
    shards, and its values may be stale when it returns. ``store``: a shard is never ejected; while
    it is down, commands on its keys fail, and those on other keys succeed."""
    policy: NotRequired[Annotated[str, one_of("default", "seed"), Default("default")]]
    """``seed`` is the configuration that the book prints, which loses acknowledged writes; only the
    ports and ``resources`` can be set with it."""
    timeout_ms: NotRequired[
        Annotated[int, between(1, 600_000), DefaultsTo("400 for a cache, 1000 for a store")]
    ]
    """Timeout of a connection and of a response, in milliseconds."""
    server_connections: NotRequired[Annotated[int, between(1, 64), Default(1)]]
    """Connections to each shard. A single one keeps the order of a client's commands."""
    server_failure_limit: NotRequired[Annotated[int, between(1, 1000), Default(3)]]
    """Cache only: failures in a row after which a shard is ejected."""
    server_retry_timeout_ms: NotRequired[Annotated[int, between(1, 3_600_000), Default(30_000)]]
    """Cache only: milliseconds for which it stays ejected."""
    client_retries: NotRequired[Annotated[int, between(0)]]
    """Cache only: how often the application retries a failed command. It is only validated: it must
    exceed the failure limit, or a command fails for good before its shard is ejected."""
    listen_port: NotRequired[
        Annotated[UnprivilegedPort, DefaultsTo("6379 for Redis, 11211 for memcached")]
    ]
    """Port for its clients."""
    stats_port: NotRequired[Annotated[UnprivilegedPort, Default(22222)]]
    """Port on 127.0.0.1 that answers every connection with statistics as JSON."""
    stats_interval_ms: NotRequired[Annotated[int, between(100, 3_600_000), Default(1000)]]
    """Milliseconds between two updates of the statistics."""
    mbuf_bytes: NotRequired[Annotated[int, between(512, 65536), Default(2048)]]
    """Size of the proxy's buffers in bytes. A command's key, with some 80 bytes around it, must fit
    into one. Each command of a pipeline takes at least two; buffers are reused but never freed."""
    verbosity: NotRequired[Annotated[int, between(0, _QUIET), Default(4)]]
    """Log level: emergencies (0), warnings (4), every connection (6). Higher levels would log keys
    and the password."""


@dataclasses.dataclass(frozen=True)
class Pool:
    """One pool of nutcracker's configuration, under its own names; times in milliseconds."""

    where: str
    """The component, for error messages."""
    shards: Sequence[str]
    """Names of the shards."""
    address: str
    port: int
    redis: bool = True
    """Whether it speaks Redis' protocol, otherwise memcached's."""
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
    """Whether shards are placed on the ring by name rather than by host:port."""
    title: str = ""

    @property
    def listen(self) -> str:
        """Where its clients connect, ``host:port``."""
        return f"{self.address}:{self.port}"

    @property
    def protocol(self) -> str:
        """The pool's name, and its protocol."""
        return "redis" if self.redis else "memcached"

    def ring(self, endpoints: Sequence[pulumi.Input[str]]) -> pulumi.Output[Ring]:
        """The ring by which twemproxy places keys; known at once if shards are placed by name."""
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
        """The same for resolved values; InputError for an IPv6 address."""
        _check_hosts(self.where, endpoints)
        comments = {"redis_auth": "Sent to the shards, and required from clients."}
        if self.named:
            comments |= {
                "hash": "All proxies of this store must agree on these and on the names below.",
                "auto_eject_hosts": self._failure(),
            }
        settings = {
            "listen": self.listen,
            "redis_auth": None if password is None else f'"{password}"',
            "hash": self.hash,
            "distribution": "ketama",
            "hash_tag": f'"{self.hash_tag}"' if self.hash_tag else None,
            "auto_eject_hosts": self.auto_eject_hosts,
            "redis": self.redis or None,
            "preconnect": self.preconnect or None,
            "tcpkeepalive": self.tcpkeepalive or None,
            "timeout": self.timeout,
            "server_connections": self.server_connections,
            "server_retry_timeout": self.server_retry_timeout if self.auto_eject_hosts else None,
            "server_failure_limit": self.server_failure_limit if self.auto_eject_hosts else None,
        }
        lines = [f"# {self.title}"] if self.title else []
        lines.append(f"{self.protocol}:")
        for key, value in settings.items():
            if value is not None:
                lines += [f"  # {comments[key]}"] if key in comments else []
                lines.append(f"  {key}: {str(value).lower() if isinstance(value, bool) else value}")
        lines.append("  servers:")
        if self.named:
            lines.append("  # host:port:weight, and the name that places the shard on the ring")
        for name, endpoint in zip(self.shards, endpoints, strict=True):
            lines.append(f"  - {endpoint}:1 {name}" if self.named else f"  - {endpoint}:1")
        return "\n".join(lines) + "\n"

    def _failure(self) -> str:
        if self.auto_eject_hosts:
            return (
                f"A shard that fails {self.server_failure_limit} times in a row is ejected for "
                f"{self.server_retry_timeout} ms; its keys go to the others."
            )
        return "A shard is never ejected: while it is down, commands on its keys fail."


_CACHE_ONLY = ("server_failure_limit", "server_retry_timeout_ms", "client_retries")
_FIXED_BY_SEED = ("role", "timeout_ms", "server_connections", *_CACHE_ONLY)


def pool_of(
    where: str, given: Mapping[str, Any], args: PoolArgs, *, address: str, beside: str
) -> Pool:
    """The pool for the arguments, checked across each other; InputError before anything is
    registered.

    :param given: the arguments as the user wrote them
    :param args: as they were resolved; the port is filled in
    :param address: that it listens on
    :param beside: where its clients are, for the file's first line
    """
    store = args["store"]
    # As the constraint of the argument says.
    topology = cast(Topology, store.topology)
    _check_hosts(where, [endpoint for endpoint in store.endpoints if isinstance(endpoint, str)])
    if store.credentials is not None and store.app_protocol == "memcached":
        raise InputError(
            where, "store.credentials", "<given>", "must be left out: memcached has no passwords"
        )
    if store.credentials is not None and store.credentials.username:
        raise InputError(
            where,
            "store.credentials.username",
            store.credentials.username,
            "must be empty: twemproxy logs in with a password alone",
        )
    redis = store.app_protocol != "memcached"
    args.setdefault("listen_port", 6379 if redis else 11211)
    different(where, args, "listen_port", "stats_port")
    port = args["listen_port"]
    if args["policy"] == "seed":
        left_out(where, given, _FIXED_BY_SEED, 'policy "seed" is what the book prints')
        return Pool(where, topology.shards, address, port, redis)
    if args["role"] == "store":
        left_out(where, given, _CACHE_ONLY, 'with role "store" no shard is ejected')
    limit = args["server_failure_limit"]
    if "client_retries" in args and args["client_retries"] <= limit:
        raise InputError(
            where,
            "client_retries",
            args["client_retries"],
            f"must be above server_failure_limit, which is {limit}",
        )
    return Pool(
        where,
        topology.shards,
        address,
        port,
        redis,
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
        title=f"twemproxy in front of {store.name} as a {args['role']}, for {beside}.",
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


def program(
    where: str, name: str, args: PoolArgs, pool: Pool, *, part: str, hosting: CompanionHosting
) -> Program:
    """The twemproxy of a pool.

    :param part: its role in the pod
    """
    store = args["store"]
    password = None
    if store.credentials is not None:
        password = pulumi.Output.secret(store.credentials.password)
    files = {_FILE: pool.yaml(store.endpoints, password)}
    return Program(
        where,
        name,
        application="twemproxy",
        part=part,
        image=args["image"],
        hosting=hosting,
        command=[
            "nutcracker",
            *("--conf-file", _FILE),
            # Debian's build exits without a writable log file.
            *("--output", "/dev/stderr"),
            *("--verbose", str(args["verbosity"])),
            *("--stats-addr", LOOPBACK),
            *("--stats-port", str(args["stats_port"])),
            *("--stats-interval", str(args["stats_interval_ms"])),
            *("--mbuf-size", str(args["mbuf_bytes"])),
        ],
        files={} if password is not None else files,
        secret_files=files if password is not None else {},
        ports=[
            {
                "name": pool.protocol,
                "port": pool.port,
                "address": pool.address,
                "app_protocol": pool.protocol,
            },
            {"name": "twemproxy-stats", "port": args["stats_port"], "address": LOOPBACK},
        ],
        # The probes check the proxy, never a shard: a failed shard must not make every pod unready.
        readiness={"command": _ask(pool, *_ANSWERS[pool.protocol])},
        # While names do not resolve, the proxy blocks in the resolver and answers nothing.
        liveness={"command": _ask(pool, "")},
        reaches=(store,),
    )


_QUESTIONS = {"redis": r"*1\r\n$4\r\nPING\r\n", "memcached": r"version\r\n"}
# For memcached a shard answers, or the proxy if that shard is down.
_ANSWERS = {"redis": ("+PONG", "-NOAUTH"), "memcached": ("VERSION", "SERVER_ERROR")}


def _ask(pool: Pool, *answers: str) -> list[str]:
    """A probe command that expects one of the answers, or any if that is empty."""
    wanted = " || ".join(f"$answer == {answer}*" for answer in answers)
    script = (
        f"exec 3<>/dev/tcp/{LOOPBACK}/{pool.port} && "
        f"printf '{_QUESTIONS[pool.protocol]}' >&3 && read -r -t 4 answer <&3 && [[ {wanted} ]]"
    )
    return ["bash", "-c", script]
