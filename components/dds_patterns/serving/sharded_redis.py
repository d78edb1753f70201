"""Sharded Redis: one store in several independent shards (chapters 3 and 6).

The shards do not communicate. The clients' ambassadors map each key to a shard, with the topology in
this component's reach.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired

import pulumi

from dds_patterns.arguments import (
    DISTINCT,
    Default,
    DefaultsTo,
    InputError,
    Later,
    Secret,
    between,
    one_of,
    resolved,
)
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.place import Place
from dds_patterns.platform.generated import Rotated, RotationArgs, check_rotation, given, rotated
from dds_patterns.pods.companion import Companion
from dds_patterns.pods.hosting import StatefulHosting, with_resources, with_storage
from dds_patterns.pods.images import image_of
from dds_patterns.serving.shard_set import ShardingArgs, ShardSet, ShardSetArgs
from dds_patterns.sharding import RingPlan
from dds_patterns.single_node.twemproxy_pool import ROLES
from dds_patterns.values.peers import Clients
from dds_patterns.values.reach import Credentials, Reach
from dds_patterns.values.redis_user import RedisPassword, RedisUser, hashed
from dds_patterns.workloads.stateful import StatefulApplication

PORT = 6379
FSYNC = ("always", "everysec", "no")

_DATA = "/data"
_CONFIG = "/etc/redis/redis.conf"
_ACL = "/etc/redis-acl/users.acl"
_FORMER = {"password": "former_password", "admin_password": "former_admin_password"}


class ShardedRedisArgs(ShardingArgs):
    """Arguments of ShardedRedis."""

    image: NotRequired[Annotated[Later[Image], image_of("redis")]]
    """Image with redis-server, redis-cli and sh (redis, valkey/valkey or the project's own)."""
    role: NotRequired[Annotated[str, one_of(*ROLES), Default("cache")]]
    """``cache``: when full, it evicts the least recently used keys (LRU); nothing is on disk.
    ``store``: when full, it refuses writes; every write is on disk before it is acknowledged."""
    persistence: NotRequired[Annotated[bool, DefaultsTo("true for a store")]]
    """Whether each shard has a persistent volume with an append-only file. A cache has none. A
    store without one is empty after a restart."""
    appendfsync: NotRequired[Annotated[str, one_of(*FSYNC), DefaultsTo("``always``")]]
    """With persistence, when a write is on disk: ``always`` before it is acknowledged; ``everysec``
    within about two seconds, which a crash can lose; ``no`` when the kernel flushes it."""
    memory_mib: NotRequired[Annotated[int, between(16, 1_048_576), Default(64)]]
    """Memory for the data of each shard in MiB. The container's limit is above it, and about twice as
    high with persistence, since a forked process rewrites the append-only file."""
    auth: NotRequired[Annotated[bool, Default(True)]]
    """Whether clients need a password. Without one, only the NetworkPolicy restricts access."""
    password: NotRequired[Annotated[Secret[RedisPassword], DefaultsTo("generated")]]
    """The clients' password."""
    former_password: NotRequired[Secret[RedisPassword]]
    """The previous ``password``, which is also valid until this is left out."""
    admin_password: NotRequired[Annotated[Secret[RedisPassword], DefaultsTo("generated")]]
    """Password of the user ``admin``, which has all permissions."""
    former_admin_password: NotRequired[Secret[RedisPassword]]
    """The previous ``admin_password``, which is also valid until this is left out."""
    rotation: NotRequired[Annotated[RotationArgs, Default({})]]
    """When generated passwords are replaced. A rotation replaces the shards' pods, which empties a
    cache."""
    companions: NotRequired[Annotated[Sequence[Companion], Default(())]]
    """Companions of every shard, for example an exporter."""
    users: NotRequired[Annotated[Sequence[RedisUser], Default(())]]
    """More ACL users, most often those of companions, such as ``exporter.user``."""
    slow_command_ms: NotRequired[
        Annotated[int, between(0, 3_600_000), DefaultsTo("Redis' own, 10")]
    ]
    """Threshold in milliseconds of Redis' slow log; 0 logs all commands."""
    clients: NotRequired[Clients]
    """Clients that may connect to the shards, besides workloads with ``reach`` in ``reaches``; ``{}`` is
    every pod of the namespace."""
    hosting: NotRequired[Annotated[StatefulHosting, Default({})]]
    """Namespace, labels, nodes, spread and resources; the default memory limit and request follow
    ``memory_mib``. With persistence ``storage.size`` is at least twice the memory: while the
    append-only file is rewritten, there are two."""


class ShardedRedis(pulumi.ComponentResource):
    """Independent Redis servers, each with a stable name and address.

    Registers a ShardSet with one replica of each shard, with configuration, ACL and passwords. A
    replaced pod may have another IP address on another node: clients keep that of the Service.
    """

    reach: Reach
    """How clients reach the shards, one endpoint each, with the password and the topology."""
    endpoints: pulumi.Output[list[str]]
    """``host:port`` of each shard."""
    plan: RingPlan
    """Names of the shards on the ring and the share of the keys that each is predicted to hold."""
    password: pulumi.Output[str]
    """What clients send with AUTH; a secret. Empty without ``auth``."""
    admin_password: pulumi.Output[str]
    """Password of the user ``admin``; a secret. Empty without ``auth``."""
    application: StatefulApplication
    """The servers."""

    def __init__(
        self, name: str, args: ShardedRedisArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the store.

        :param name: a DNS label of at most 52 characters, unique in its namespace, that does not end
            as replicas' do (-0, -r1)
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'ShardedRedis "{name}"'
        args = _checked(where, args)
        ShardSet.validate(where, name, _shards(args))
        super().__init__(
            "dds:index:ShardedRedis",
            name,
            {"image": args["image"], "shards": args["shards"], "role": args["role"]},
            opts,
        )
        own = pulumi.ResourceOptions(parent=self)
        self.password = self.admin_password = pulumi.Output.from_input("")
        passwords: list[Rotated] = []
        if args["auth"]:
            clients = _password(args, "password", f"{name}-password", own)
            admin = _password(args, "admin_password", f"{name}-admin", own)
            passwords = [clients, admin]
            self.password, self.admin_password = clients.value, admin.value
        shards = _shards(args, passwords)
        if passwords:
            shards["credentials"] = Credentials(self.password)
        made = ShardSet(name, shards, own)
        self.reach, self.plan, (self.application,) = made.reach, made.plan, made.applications
        self.endpoints = made.endpoints
        self.register_outputs(
            {
                "endpoints": self.endpoints,
                "password": self.password,
                "admin_password": self.admin_password,
            }
        )


def _redis_conf(args: ShardedRedisArgs) -> str:
    """The servers' configuration file."""
    lines = [
        f"# Redis as a {args['role']}. Generated.",
        "bind * -::*",
        f"port {PORT}",
        "# The NetworkPolicy and the users of the ACL decide who may connect.",
        "protected-mode no",
        f"aclfile {_ACL}",
        "tcp-keepalive 60",
        f"dir {_DATA}",
        f"maxmemory {args['memory_mib']}mb",
    ]
    if args["role"] == "cache":
        lines += ["# Full, it makes room.", "maxmemory-policy allkeys-lru"]
    else:
        lines += ["# Full, it refuses writes; nothing is lost.", "maxmemory-policy noeviction"]
    lines.append('save ""')
    if args["persistence"]:
        lines += ["appendonly yes", f"appendfsync {args['appendfsync']}"]
        if args["appendfsync"] == "always":
            lines.append("# A write is on disk before it is acknowledged.")
        # A write that a crash truncated was never acknowledged.
        lines.append("aof-load-truncated yes")
    else:
        lines.append("appendonly no")
    if "slow_command_ms" in args:
        lines.append(f"slowlog-log-slower-than {1000 * args['slow_command_ms']}")
    return "\n".join(lines) + "\n"


def _acl(passwords: Sequence[Rotated], users: Sequence[RedisUser]) -> pulumi.Output[str]:
    """The ACL: users and their permissions.

    :param passwords: the clients' and the administrator's; none without ``auth``
    """

    def text(known: Sequence[Any]) -> str:
        accepted, others = known
        words = [hashed(each) for each in accepted] or ["nopass"]
        lines = [
            # KEYS, FLUSHALL, CONFIG, SHUTDOWN, MONITOR and their like are @dangerous or @admin.
            f"user default on {words[0]} ~* &* +@all -@admin -@dangerous",
            *(f"user admin on {word} ~* &* +@all" for word in words[1:]),
            # For probes: without a password, PING and nothing else.
            "user probe on nopass resetkeys resetchannels -@all +ping",
            *others,
        ]
        return "\n".join(lines) + "\n"

    return pulumi.Output.all(
        pulumi.Output.all(*(each.accepted for each in passwords)),
        pulumi.Output.all(*(user.acl_line() for user in users)),
    ).apply(text)


def _password(
    args: ShardedRedisArgs, argument: str, name: str, opts: pulumi.ResourceOptions
) -> Rotated:
    own: Mapping[str, Any] = args
    if argument in own:
        return given(own[argument], own.get(_FORMER[argument]))
    return rotated(name, args["rotation"], opts)


def _checked(where: str, args: ShardedRedisArgs) -> ShardedRedisArgs:
    args = resolved(where, ShardedRedisArgs, args)
    DISTINCT.check(Place(where, "users.name"), [user.name for user in args["users"]])
    persistence = args.setdefault("persistence", args["role"] == "store")
    if args["role"] == "cache" and persistence:
        raise InputError(
            where, "persistence", persistence, 'must be false with role "cache"; "store" keeps data'
        )
    hosting = args["hosting"]
    if not persistence:
        unused = {"appendfsync": args.get("appendfsync"), "hosting.storage": hosting.get("storage")}
        for argument, value in unused.items():
            if value is not None:
                Place(where, argument).refuse(
                    value, "must be left out: without persistence nothing is on disk"
                )
    _check_passwords(where, args)
    memory = args["memory_mib"]
    # Copy-on-write: the child that rewrites the append-only file may double the used memory.
    limit = f"{(2 * memory if persistence else memory + memory // 4) + 48}Mi"
    if persistence:
        because = "twice memory_mib: while the file is rewritten, there are two"
        hosting = with_storage(where, hosting, 2 * memory, because)
    args["hosting"] = with_resources(
        where,
        hosting,
        requests={"cpu": "50m", "memory": limit},
        limits={"memory": limit},
        least_memory=(limit, "which memory_mib needs"),
    )
    args.setdefault("appendfsync", "always")
    return args


def _check_passwords(where: str, args: ShardedRedisArgs) -> None:
    for argument, former in _FORMER.items():
        for each in (argument, former):
            if each in args and not args["auth"]:
                Place(where, each).hidden().refuse(None, "must be left out with auth false")
        if former in args and argument not in args:
            Place(where, former).hidden().refuse(
                None, f"must be left out without {argument}: rotation handles a generated one"
            )
    generated = args["auth"] and not {*_FORMER} <= {*args}
    check_rotation(where, args["rotation"], generated=generated)


def _shards(args: ShardedRedisArgs, passwords: Sequence[Rotated] = ()) -> ShardSetArgs:
    users = args["users"]
    acl = {_ACL: _acl(passwords, users)}
    secret = bool(passwords or users)
    shards: ShardSetArgs = {
        "image": args["image"],
        "shards": args["shards"],
        "hash": args["hash"],
        "hash_tag": args["hash_tag"],
        "application": "redis",
        "command": ["redis-server", _CONFIG],
        "files": {_CONFIG: _redis_conf(args), **({} if secret else acl)},
        "secret_files": acl if secret else {},
        "ports": [{"name": "redis", "port": PORT, "app_protocol": "redis"}],
        "clients": args["clients"],
        "companions": args["companions"],
        "hosting": args["hosting"],
        # Loading a big file takes time; until then PING is answered with LOADING.
        "startup": {"command": _probe(">/dev/null"), "failure_threshold": 120},
        # The first probe follows the startup probe, so a restarted shard is ready at once.
        "readiness": {"command": _probe("| grep -q PONG")},
        "liveness": {"command": _probe(">/dev/null")},
        # No other pod has this shard's keys, so a drain time would not help.
        "drain_seconds": 0,
        "termination_grace_period_seconds": 30,
    }
    if args["persistence"]:
        shards["storage_path"] = _DATA
    else:
        shards["writable"] = [_DATA]
    return shards


def _probe(wanted: str) -> list[str]:
    # The user probe needs no password, so none is in an argument or in the environment.
    return ["sh", "-c", f"REDISCLI_AUTH=none redis-cli --user probe ping {wanted}"]
