"""What an etcd cluster is told: its arguments, checked, and the configuration file made of them."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import ResourceRequirementsArgsDict

from components.arguments.errors import InputError
from components.platform.certificates import Authority
from components.values import checks
from components.values.edges import Edge
from components.workloads.scheduled import schedule

CLIENT_PORT, PEER_PORT, METRICS_PORT, SNAPSHOT_PORT = 2379, 2380, 2381, 2382
SIZES = (1, 3, 5)
"""Members: an even number bears no more losses than the odd one below it."""

STORAGE = "/var/lib/etcd"
PEER, CLIENT, TOKENS = "/etc/etcd/peer", "/etc/etcd/client", "/etc/etcd/tokens"
ROOT = "/etc/etcd/root"
_TOKEN = f"jwt,pub-key={TOKENS}/tls.crt,priv-key={TOKENS}/tls.key,sign-method=ES256,ttl=10m"
# The StatefulSet needs eleven characters for its own, the client label 14.
_RESERVE = 14
MIB = 2**20
# A write-ahead log of five files of 64 MB, and a snapshot beside it.
_LOG_MB = 512
_FILE = re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]*\.db")
_PASSWORD = re.compile(r"[-._~A-Za-z0-9]{16,128}")


class DefragmentationArgs(TypedDict):
    """When members give free pages of their files back to the disk, one after the other."""

    schedule: NotRequired[str]
    """Five fields of cron, in UTC. Defaults to ``17 3 * * *``."""
    free_percent: NotRequired[float]
    """Part of the file that must be free for it to be worth a pause. Defaults to 50."""
    least_mb: NotRequired[int]
    """Size of the file in MiB below which nothing is done, at least 0. Defaults to 64."""


class SnapshotsArgs(TypedDict):
    """Regular snapshots on a volume of their own, which outlives the cluster."""

    claim: pulumi.Input[str]
    """Name of a PersistentVolumeClaim in the namespace."""
    schedule: NotRequired[str]
    """Five fields of cron, in UTC. Defaults to ``47 * * * *``."""
    keep: NotRequired[int]
    """Snapshots that are kept, from 1 to 1000. Defaults to 24."""


class RestoreArgs(TypedDict):
    """What a cluster begins with whose members are all empty. Others take no notice of it."""

    claim: pulumi.Input[str]
    """Name of the PersistentVolumeClaim with the snapshot."""
    file: str
    """Name of the snapshot, ``<cluster>-<time>.db``."""


class EtcdClusterArgs(TypedDict):
    """Arguments of EtcdCluster."""

    image: pulumi.Input[str]
    """Image with etcd 3.6: the project's, or the upstream one. With a tag or digest."""
    tools_image: NotRequired[pulumi.Input[str]]
    """The project's image ``etcd``, for all that is not etcd itself. Defaults to ``image``."""
    members: NotRequired[int]
    """1, 3 or 5. Defaults to 3, of which one may be lost; of 5, two."""
    quota_mb: NotRequired[int]
    """Most that the data may take in MiB, from 16 to 8192; beyond it writes are refused. Defaults
    to 512."""
    storage_size: NotRequired[str]
    """Size of each volume, a Kubernetes quantity. Defaults to twice the quota, which a
    defragmentation needs, and 512Mi for the log; less is refused."""
    storage_class: NotRequired[pulumi.Input[str]]
    """StorageClass. Defaults to the cluster's default one."""
    delete_data: NotRequired[bool]
    """Whether destroying the cluster deletes the volumes. Defaults to no."""
    heartbeat_ms: NotRequired[int]
    """Milliseconds between two heartbeats of the leader, from 20 to 5000. Defaults to 100. About
    the time of a round trip and a write to disk, or more."""
    election_ms: NotRequired[int]
    """Milliseconds without one after which the others elect, at most 50000 and at least five
    heartbeats. Defaults to ten heartbeats."""
    compaction_minutes: NotRequired[int]
    """Minutes for which former versions of keys are kept, from 1 to 10080. Defaults to 60."""
    defragmentation: NotRequired[DefragmentationArgs]
    """By default each night, where half of a file is free."""
    snapshots: NotRequired[SnapshotsArgs]
    """By default there are none."""
    restore: NotRequired[RestoreArgs]
    """The snapshot to begin with. Leave it there afterwards, or take it away: both change nothing
    in the data."""
    root_password: NotRequired[pulumi.Input[str]]
    """Password of the user ``root``, 16 to 128 characters of A to Z, a to z, 0 to 9 and ``-._~``.
    By default generated with the cluster, and gone with it. A snapshot holds root's password: who
    wants to restore it into another cluster keeps the password outside and gives it here."""
    authority: NotRequired[Authority]
    """Issues the certificate that clients verify. By default the cluster has one of its own. That
    between members is always its own."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits of etcd. Default to cpu 100m, memory 128Mi, and a memory limit of the
    quota and 256Mi."""
    ingress: NotRequired[Sequence[Edge]]
    """More connections let in, for example of a collector to the metrics at port 2381."""
    spread: NotRequired[str]
    """How members are kept on different nodes: ``soft`` (default), ``strict`` or ``none``."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace. Defaults to the provider's."""


@dataclasses.dataclass(frozen=True)
class EtcdSettings:
    """The arguments of a cluster, checked and complete."""

    members: int
    quota_mb: int
    storage_size: str
    heartbeat_ms: int
    election_ms: int
    compaction_minutes: int
    free_percent: float
    least_mb: int
    defragmented: str
    snapshots_taken: str
    keep: int

    def yaml(self, token: str) -> str:
        """The configuration file, but for what differs between members."""
        lines = [
            "# etcd. Generated; the names and addresses of each member are added where it starts.",
            f"data-dir: {STORAGE}/data",
            f"listen-client-urls: https://0.0.0.0:{CLIENT_PORT}",
            f"listen-peer-urls: https://0.0.0.0:{PEER_PORT}",
            "# Probes and metrics; the NetworkPolicy lets nobody in.",
            f"listen-metrics-urls: http://0.0.0.0:{METRICS_PORT}",
            "tls-min-version: TLS1.3",
            "client-transport-security:",
            f"  cert-file: {CLIENT}/tls.crt",
            f"  key-file: {CLIENT}/tls.key",
            "peer-transport-security:",
            f"  cert-file: {PEER}/tls.crt",
            f"  key-file: {PEER}/tls.key",
            "  client-cert-auth: true",
            f"  trusted-ca-file: {PEER}/ca.crt",
            "  # The authority is the members' own. Asking DNS for each connection as well would keep",
            "  # out a member whose pod has a new address.",
            "  skip-client-san-verification: true",
            "# Tokens that every member can verify, also after a restart.",
            f"auth-token: {_TOKEN}",
            "enable-grpc-gateway: true",
            f"initial-cluster-token: {token}",
            "strict-reconfig-check: true",
            f"heartbeat-interval: {self.heartbeat_ms}",
            f"election-timeout: {self.election_ms}",
            f"quota-backend-bytes: {self.quota_mb * MIB}",
            "auto-compaction-mode: periodic",
            f'auto-compaction-retention: "{self.compaction_minutes}m"',
            "# A member compares its data with the others' before it serves.",
            "feature-gates: InitialCorruptCheck=true",
        ]
        return "\n".join(lines) + "\n"


def settings_of(where: str, name: str, args: EtcdClusterArgs) -> EtcdSettings:
    """Check the arguments of a cluster and fill in what is not given.

    :raises InputError: an argument that cannot be right
    """
    checks.known_arguments(where, EtcdClusterArgs, args)
    checks.dns_label(where, "name", name, reserve=_RESERVE)
    if "tools_image" in args:
        checks.image_reference(where, "tools_image", args["tools_image"])
    members = checks.plain(where, "members", args.get("members", 3), "it decides their names")
    checks.integer(where, "members", members)
    if members not in SIZES:
        raise InputError(where, "members", members, "must be 1, 3 or 5")
    quota = checks.integer(where, "quota_mb", args.get("quota_mb", 512), minimum=16, maximum=8192)
    heartbeat = checks.integer(
        where, "heartbeat_ms", args.get("heartbeat_ms", 100), minimum=20, maximum=5000
    )
    election = checks.integer(
        where,
        "election_ms",
        args.get("election_ms", 10 * heartbeat),
        minimum=5 * heartbeat,
        maximum=50_000,
    )
    _check_secrets(where, args)
    defragmentation = args.get("defragmentation", {})
    checks.known_arguments(f"{where}: defragmentation", DefragmentationArgs, defragmentation)
    snapshots: Mapping[str, Any] = args.get("snapshots", {})
    if "snapshots" in args:
        checks.known_arguments(f"{where}: snapshots", SnapshotsArgs, snapshots)
    if "restore" in args:
        checks.known_arguments(f"{where}: restore", RestoreArgs, args["restore"])
        file = checks.plain(where, "restore.file", args["restore"]["file"], "a cluster keeps it")
        if not _FILE.fullmatch(file):
            raise InputError(where, "restore.file", file, "must be a file's name such as a.db")
    return EtcdSettings(
        members=members,
        quota_mb=quota,
        storage_size=_storage(where, args, quota),
        heartbeat_ms=heartbeat,
        election_ms=election,
        compaction_minutes=checks.integer(
            where,
            "compaction_minutes",
            args.get("compaction_minutes", 60),
            minimum=1,
            maximum=10_080,
        ),
        free_percent=checks.percentage(
            where, "defragmentation.free_percent", defragmentation.get("free_percent", 50)
        ),
        least_mb=checks.integer(
            where, "defragmentation.least_mb", defragmentation.get("least_mb", 64), minimum=0
        ),
        defragmented=schedule(
            where,
            "defragmentation.schedule",
            defragmentation.get("schedule", "17 3 * * *"),
        ),
        snapshots_taken=schedule(
            where, "snapshots.schedule", snapshots.get("schedule", "47 * * * *")
        ),
        keep=checks.integer(
            where, "snapshots.keep", snapshots.get("keep", 24), minimum=1, maximum=1000
        ),
    )


def _storage(where: str, args: EtcdClusterArgs, quota: int) -> str:
    least = 2 * quota + _LOG_MB
    size = checks.quantity(where, "storage_size", args.get("storage_size", f"{least}Mi"))
    if checks.amount(size) < least * MIB:
        raise InputError(
            where,
            "storage_size",
            size,
            f"must be at least {least}Mi: twice the quota for a defragmentation, and the log",
        )
    return size


def _check_secrets(where: str, args: EtcdClusterArgs) -> None:
    authority: object = args.get("authority")
    if authority is not None and not isinstance(authority, Authority):
        raise InputError(where, "authority", authority, "must be an Authority")
    password = args.get("root_password")
    if isinstance(password, str) and not _PASSWORD.fullmatch(password):
        raise InputError(
            where,
            "root_password",
            "<secret>",
            "must have from 16 to 128 characters of A to Z, a to z, 0 to 9 and -._~",
        )
