"""Sharded Redis: one store in several independent shards (chapters 3 and 6).

The shards know nothing of each other. Which key is where is decided by the clients' ambassadors,
from the topology that this component gives.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

import pulumi

from components.arguments.errors import InputError
from components.platform.generated import Password
from components.pods import labels as pod_labels
from components.pods.companion import Companion
from components.single_node.twemproxy import ROLES, check_password
from components.values import checks
from components.values.redis_user import RedisUser
from components.values.ring import (
    DEFAULT_HASH,
    HASHES,
    MOST_SHARDS,
    RingPlan,
    least_moved,
    moved_fraction,
    plan,
)
from components.values.topology import Shard, Topology
from components.workloads.stateful import (
    StatefulApplication,
    StatefulApplicationArgs,
    StorageArgs,
    replica_services,
)

PORT = 6379
FSYNC = ("always", "everysec", "no")

_DATA = "/data"
_CONFIG = "/etc/redis/redis.conf"
_ACL = "/etc/redis-acl/users.acl"
# A Service per pod is named <name>-<ordinal>; the StatefulSet itself needs eleven characters.
_RESERVE = 11
_CLIENT_PREFIX = "dds/client-of-"


class ShardedRedisArgs(TypedDict):
    """Arguments of ShardedRedis."""

    image: pulumi.Input[str]
    """Image with redis-server, redis-cli and sh (redis, valkey/valkey or the project's own), with
    a tag or digest."""
    shards: NotRequired[int]
    """Number of shards, from 1 to 64. Defaults to 3. A changed number moves keys, which are then
    not found: a cache refills, a store has to be copied."""
    role: NotRequired[str]
    """``cache`` (default): full, it evicts what was least recently used; nothing is on disk.
    ``store``: full, it refuses writes; every write is on disk before it is acknowledged."""
    persistence: NotRequired[bool]
    """Whether each shard has a persistent volume with an append-only file. Defaults to yes for a
    store; a cache has none. A store without one is empty after a restart."""
    appendfsync: NotRequired[str]
    """With persistence, when a write is on disk: ``always`` (default) before it is acknowledged;
    ``everysec`` within about two seconds, which a crash can lose; ``no`` when the kernel likes."""
    memory_mb: NotRequired[int]
    """Memory for data of each shard in MiB, at least 16. Defaults to 64. The container's limit
    lies above it, twice as high where the append-only file is rewritten by a forked process."""
    storage_size: NotRequired[str]
    """Size of each volume, a Kubernetes quantity. Defaults to four times the memory."""
    storage_class: NotRequired[pulumi.Input[str]]
    """StorageClass. Defaults to the cluster's default one."""
    delete_data: NotRequired[bool]
    """Whether destroying the store deletes the volumes. Defaults to no."""
    auth: NotRequired[bool]
    """Whether clients need a password. Defaults to yes. Without, the NetworkPolicy alone keeps
    others out."""
    password: NotRequired[pulumi.Input[str]]
    """The clients' password, 8 to 128 characters of A to Z, a to z, 0 to 9 and ``-._~``. By default generated once."""
    admin_password: NotRequired[pulumi.Input[str]]
    """Password of the user ``admin``, who may do everything. By default generated once."""
    hash: NotRequired[str]
    """Key hash of the proxies, as twemproxy calls it. Defaults to murmur; others can be uneven on
    keys of some shape."""
    hash_tag: NotRequired[str]
    """Two characters such as ``{}``: keys with the same part between them share a shard."""
    companions: NotRequired[Sequence[Companion]]
    """Companions of every shard, for example an exporter."""
    users: NotRequired[Sequence[RedisUser]]
    """Users beside the clients', most often those of companions, such as ``exporter.user``."""
    slow_command_ms: NotRequired[int]
    """Milliseconds from which on a command is kept in Redis' slow log, from 0 (all). Defaults to
    Redis' own, which is 10."""
    spread: NotRequired[str]
    """How shards are kept on different nodes: ``soft`` (default), ``strict`` or ``none``."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace. Defaults to the provider's."""


class ShardedRedis(pulumi.ComponentResource):
    """Independent Redis servers, each with a name and an address that stay.

    Registers a StatefulSet with its headless Service, a Service with an address of its own for
    each shard, configuration, ACL, passwords, a NetworkPolicy and a PodDisruptionBudget. A shard's
    pod may come back with another address on another node: clients keep the Service's.
    """

    topology: Topology
    """The shards, for ambassadors, routers and tests."""
    plan: RingPlan
    """Names of the shards on the ring and the share of the keys that each is predicted to hold."""
    password: pulumi.Output[str] | None
    """What clients send with AUTH; a secret. None without ``auth``."""
    admin_password: pulumi.Output[str] | None
    """Password of the user ``admin``; a secret. None without ``auth``."""
    application: StatefulApplication
    """The servers."""

    def __init__(
        self, name: str, args: ShardedRedisArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the store.

        :param name: a DNS label of at most 49 characters, unique in its namespace
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'ShardedRedis "{name}"'
        settings = _checked(where, name, args)
        client_label = (f"{_CLIENT_PREFIX}{name}", "true")
        workload = _workload(args, settings, client_label)
        StatefulApplication.validate(where, name, workload(_Acl.open()))
        selector = pod_labels.selector("redis", name, "shard")
        self.plan = plan(settings.shards, settings.hash)
        self.topology = Topology(
            name=name,
            shards=tuple(
                Shard(ring_name, f"{name}-{ordinal}", PORT)
                for ordinal, ring_name in enumerate(self.plan.names)
            ),
            protocol="redis",
            client_label=client_label,
            server_labels=selector,
            hash=settings.hash,
            hash_tag=settings.hash_tag,
        )

        super().__init__(
            "dds:index:ShardedRedis",
            name,
            {"image": args["image"], "shards": settings.shards, "role": settings.role},
            opts,
        )
        for line in forecast(self.plan):
            pulumi.log.info(line, self)
        own = pulumi.ResourceOptions(parent=self)
        self.password = None
        self.admin_password = None
        acl = _Acl.open()
        if settings.auth:
            self.password = _password(f"{name}-password", args.get("password"), own)
            self.admin_password = _password(f"{name}-admin", args.get("admin_password"), own)
            acl = _Acl.guarded(where, self.password, self.admin_password)
        acl = acl.having(args.get("users", ()))
        self.application = StatefulApplication(name, workload(acl), own)
        replica_services(
            name,
            settings.shards,
            selector=selector,
            ports={"redis": PORT},
            namespace=args.get("namespace"),
            opts=own,
        )
        self.register_outputs(
            {
                "shares": dict(zip(self.plan.names, self.plan.shares, strict=True)),
                "password": self.password,
            }
        )


def forecast(ring_plan: RingPlan) -> list[str]:
    """What the plan leads to, in words: the share of each shard, and what a change would cost."""
    count = len(ring_plan.names)
    shares = ", ".join(f"{share:.1%}" for share in ring_plan.shares)
    predicted = (
        f"Predicted share of the keys of shards 0 to {count - 1}: {shares} "
        f"(largest over mean {ring_plan.max_over_mean:.3f})"
    )
    neighbours = [other for other in (count - 1, count + 1) if 1 <= other <= MOST_SHARDS]
    moves = ", ".join(
        f"{before} to {after} shards moves {moved_fraction(before, after):.1%}"
        f" (least possible {least_moved(before, after):.1%})"
        for before, after in ((min(count, o), max(count, o)) for o in neighbours)
    )
    return [predicted, f"Keys that a changed number of shards moves, up or down: {moves}"]


def movement(old: int, new: int) -> str:
    """What going from one number of shards to another costs, in words."""
    return (
        f"Going from {old} to {new} shards moves {moved_fraction(old, new):.1%} of the keys to "
        f"another shard (least possible {least_moved(old, new):.1%})"
    )


@dataclasses.dataclass(frozen=True)
class _Settings:
    shards: int
    role: str
    persistence: bool
    appendfsync: str
    memory_mb: int
    auth: bool
    hash: str
    hash_tag: str
    slow_command_ms: int | None

    @property
    def forks(self) -> bool:
        return self.persistence

    def redis_conf(self) -> str:
        """The servers' configuration file."""
        lines = [
            f"# Redis as a {self.role}. Generated.",
            "bind * -::*",
            f"port {PORT}",
            "# The NetworkPolicy and the users of the ACL decide who may connect.",
            "protected-mode no",
            f"aclfile {_ACL}",
            "tcp-keepalive 60",
            f"dir {_DATA}",
            f"maxmemory {self.memory_mb}mb",
        ]
        if self.role == "cache":
            lines += ["# Full, it makes room.", "maxmemory-policy allkeys-lru"]
        else:
            lines += ["# Full, it refuses writes; nothing is lost.", "maxmemory-policy noeviction"]
        lines.append('save ""')
        if self.persistence:
            lines += ["appendonly yes", f"appendfsync {self.appendfsync}"]
            if self.appendfsync == "always":
                lines.append("# A write is on disk before it is acknowledged.")
            # The tail of a file that a crash cut off was never acknowledged.
            lines.append("aof-load-truncated yes")
        else:
            lines.append("appendonly no")
        if self.slow_command_ms is not None:
            lines.append(f"slowlog-log-slower-than {1000 * self.slow_command_ms}")
        return "\n".join(lines) + "\n"


@dataclasses.dataclass(frozen=True)
class _Acl:
    text: pulumi.Input[str]
    secret: bool

    @classmethod
    def open(cls) -> "_Acl":
        return cls(_users("nopass", None), secret=False)

    @classmethod
    def guarded(cls, where: str, password: pulumi.Output[str], admin: pulumi.Output[str]) -> "_Acl":
        def text(known: Sequence[str]) -> str:
            mine, admins = (check_password(where, value) for value in known)
            return _users(f"#{_digest(mine)}", f"#{_digest(admins)}")

        return cls(pulumi.Output.all(password, admin).apply(text), secret=True)

    def having(self, users: Sequence[RedisUser]) -> "_Acl":
        if not users:
            return self
        lines = pulumi.Output.all(*(user.acl_line() for user in users))
        text = pulumi.Output.all(self.text, lines).apply(
            lambda known: known[0] + "".join(f"{line}\n" for line in known[1])
        )
        return dataclasses.replace(self, text=text, secret=True)


def _users(password: str, admin: str | None) -> str:
    # KEYS, FLUSHALL, CONFIG, SHUTDOWN, MONITOR and their like are @dangerous or @admin.
    lines = [f"user default on {password} ~* &* +@all -@admin -@dangerous"]
    if admin is not None:
        lines.append(f"user admin on {admin} ~* &* +@all")
    # For probes: whoever it is may ask whether the server lives, and nothing else.
    lines.append("user probe on nopass resetkeys resetchannels -@all +ping")
    return "\n".join(lines) + "\n"


def _digest(password: str) -> str:
    # What Redis itself keeps; the password is never in the servers' pods.
    return hashlib.sha256(password.encode()).hexdigest()


def _password(
    name: str, given: pulumi.Input[str] | None, opts: pulumi.ResourceOptions
) -> pulumi.Output[str]:
    if given is None:
        return pulumi.Output.secret(Password(name, {}, opts).value)
    return pulumi.Output.secret(given)


def _checked(where: str, name: str, args: ShardedRedisArgs) -> _Settings:
    checks.known_arguments(where, ShardedRedisArgs, args)
    checks.dns_label(where, "name", name, reserve=max(_RESERVE, len("client-of-") + 4))
    shards = checks.plain(where, "shards", args.get("shards", 3), "it decides what is registered")
    checks.integer(where, "shards", shards, minimum=1, maximum=MOST_SHARDS)
    role = checks.one_of(where, "role", args.get("role", "cache"), ROLES)
    persistence = args.get("persistence", role == "store")
    if role == "cache" and persistence:
        raise InputError(
            where, "persistence", persistence, 'must be false with role "cache"; "store" keeps data'
        )
    for argument in ("appendfsync", "storage_size", "storage_class", "delete_data"):
        if argument in args and not persistence:
            raise InputError(
                where,
                argument,
                args[argument],
                "must be left out: nothing is on disk without persistence",
            )
    users = args.get("users", ())
    for user in users:
        if not isinstance(user, RedisUser):
            raise InputError(where, "users", user, "must be a RedisUser, such as exporter.user")
    checks.unique(where, "users", [user.name for user in users])
    auth = args.get("auth", True)
    for argument in ("password", "admin_password"):
        value: Any = args.get(argument)
        if value is not None and not auth:
            raise InputError(where, argument, "<secret>", "must be left out with auth false")
        if isinstance(value, str):
            check_password(where, value)
    return _Settings(
        shards=shards,
        role=role,
        persistence=persistence,
        appendfsync=checks.one_of(where, "appendfsync", args.get("appendfsync", "always"), FSYNC),
        memory_mb=checks.integer(
            where, "memory_mb", args.get("memory_mb", 64), minimum=16, maximum=1_048_576
        ),
        auth=auth,
        hash=checks.one_of(where, "hash", args.get("hash", DEFAULT_HASH), tuple(HASHES)),
        hash_tag=args.get("hash_tag", ""),
        slow_command_ms=_slow(where, args),
    )


def _slow(where: str, args: ShardedRedisArgs) -> int | None:
    if "slow_command_ms" not in args:
        return None
    return checks.integer(
        where, "slow_command_ms", args["slow_command_ms"], minimum=0, maximum=3_600_000
    )


def _workload(args: ShardedRedisArgs, settings: _Settings, client_label: tuple[str, str]) -> Any:
    """The servers' arguments, to be completed with an ACL."""
    memory = settings.memory_mb
    # The forked child that rewrites the append-only file may copy every page that changes.
    limit = (2 * memory if settings.forks else memory + memory // 4) + 48

    def complete(acl: _Acl) -> StatefulApplicationArgs:
        workload: StatefulApplicationArgs = {
            "image": args["image"],
            "application": "redis",
            "component": "shard",
            "command": ["redis-server", _CONFIG],
            "files": {_CONFIG: settings.redis_conf()},
            "ports": [{"name": "redis", "port": PORT}],
            "clients": [dict([client_label])],
            "replicas": settings.shards,
            "resources": {
                "requests": {"cpu": "50m", "memory": f"{limit}Mi"},
                "limits": {"memory": f"{limit}Mi"},
            },
            # Loading the file of a big store takes a while; it answers PING with LOADING then.
            "startup": {"command": _probe(">/dev/null"), "failure_threshold": 120},
            # The first one comes with the end of startup, so a shard that is back is used at once.
            "readiness": {"command": _probe("| grep -q PONG")},
            "liveness": {"command": _probe(">/dev/null")},
            # No other pod has this shard's keys, so waiting before the end helps nobody.
            "drain_seconds": 0,
            "grace_seconds": 30,
        }
        workload["secret_files" if acl.secret else "files"] = (
            {_ACL: acl.text} if acl.secret else {**workload["files"], _ACL: acl.text}
        )
        if settings.persistence:
            storage: StorageArgs = {
                "path": _DATA,
                "size": args.get("storage_size", f"{max(256, 4 * memory)}Mi"),
                "delete_with_workload": args.get("delete_data", False),
            }
            if "storage_class" in args:
                storage["storage_class"] = args["storage_class"]
            workload["storage"] = storage
        else:
            workload["writable"] = [_DATA]
        if "companions" in args:
            workload["companions"] = args["companions"]
        if "spread" in args:
            workload["spread"] = args["spread"]
        if "namespace" in args:
            workload["namespace"] = args["namespace"]
        return workload

    return complete


def _probe(wanted: str) -> list[str]:
    # The user probe has no password, so none is in an argument or in the environment.
    return ["sh", "-c", f"REDISCLI_AUTH=none redis-cli --user probe ping {wanted}"]
