"""Arguments of an etcd cluster, their checks, and the configuration file generated from them."""

from collections.abc import Mapping
from typing import Annotated, NotRequired, TypedDict

from dds_patterns.arguments import (
    Default,
    DefaultsTo,
    InputError,
    Later,
    Secret,
    between,
    matching,
    resolved,
)
from dds_patterns.arguments.constraints import Constraint, password
from dds_patterns.arguments.cron import Schedule
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import ObjectName, check_name
from dds_patterns.platform.generated import RotationArgs, check_rotation
from dds_patterns.pods.hosting import StatefulHosting, with_resources, with_storage
from dds_patterns.pods.images import image_of
from dds_patterns.values.issuer import Issuer
from dds_patterns.values.peers import Clients

CLIENT_PORT, PEER_PORT, METRICS_PORT, SNAPSHOT_PORT = 2379, 2380, 2381, 2382
SIZES = (1, 3, 5)
"""Members: an even number tolerates no more failures than the odd one below it."""

STORAGE = "/var/lib/etcd"
PEER, CLIENT, TOKENS = "/etc/etcd/peer", "/etc/etcd/client", "/etc/etcd/tokens"
ROOT, USERS = "/etc/etcd/root", "/etc/etcd/users"
_TOKEN = f"jwt,pub-key={TOKENS}/tls.crt,priv-key={TOKENS}/tls.key,sign-method=ES256,ttl=10m"
MIB = 2**20
# A write-ahead log of five files of 64 MB, and a snapshot beside it.
_LOG_MB = 512
# Above it etcd logs a warning at its start.
_MOST_MB = 8192


KeyPrefix = Annotated[
    str,
    # It is the start of an argument of the elector, where Kubernetes would expand $(NAME).
    matching(
        r"(?!-)[!-#%-~]{1,256}",
        "from 1 to 256 printable characters without blanks and $, not beginning with a dash, "
        "such as /shop/",
        odd=("/a b/", "/ä/", "-a", "/$(HOME)/", "/a/\n", "/" * 257),
    ),
]
"""Prefix of the keys of one user."""
UserName = Annotated[
    str,
    matching(
        # A suffix of a dash and digits is the generation of a user.
        r"(?!root$)(?!.*-[0-9]+$)[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?",
        "a user's name: from 1 to 32 lower-case letters, digits and dashes, no dash at either end, "
        "no dash and digits at the end, and not root",
        odd=("root", "Shop", "a" * 33, "-a", "a-", "a b", "a\n", "a/b", "a-2", "a--10"),
    ),
]
"""Name of a user as it is declared."""
_Password = Secret[Annotated[str, password(16)]]


class EtcdUserArgs(TypedDict):
    """A user of the cluster."""

    prefix: KeyPrefix
    """Prefix of the keys that it may read and write, such as ``/shop/``; it may use no others."""
    password: NotRequired[
        Annotated[_Password, DefaultsTo("generated, and replaced as ``rotation`` says")]
    ]
    """Its password, from outside. A changed one replaces the former one at once: pods that have not
    been replaced yet cannot log in."""


class DefragmentationArgs(TypedDict):
    """Defragmentation: members return free pages of their files to the disk, one after the other."""

    schedule: NotRequired[Annotated[Schedule, Default("17 3 * * *")]]
    """Five fields of cron, in UTC."""
    free_percent: NotRequired[Annotated[float, between(0, 100), Default(50)]]
    """Percent of the file that must be free. A member does not answer while it defragments."""
    min_size_mib: NotRequired[Annotated[int, between(0, _MOST_MB), Default(64)]]
    """Size of the file in MiB below which nothing is done."""


class SnapshotsArgs(TypedDict):
    """Regular snapshots on a separate volume, which outlives the cluster."""

    claim: Later[ObjectName]
    """Name of a PersistentVolumeClaim in the namespace."""
    schedule: NotRequired[Annotated[Schedule, Default("47 * * * *")]]
    """Five fields of cron, in UTC."""
    keep: NotRequired[Annotated[int, between(1, 1000), Default(24)]]
    """Number of snapshots to keep."""


class RestoreArgs(TypedDict):
    """The snapshot that a cluster restores if all its volumes are empty; otherwise it is ignored."""

    claim: Later[ObjectName]
    """Name of the PersistentVolumeClaim with the snapshot."""
    file: Annotated[
        str,
        matching(
            r"[A-Za-z0-9][-._A-Za-z0-9]*\.db",
            "a file's name such as etcd-20260101T000000Z.db",
            most=255,
            odd=("../a.db", "a/b.db", "a", ".db", "-a.db", "a b.db", "a.db\n", "a.DB"),
        ),
    ]
    """Name of the snapshot, ``<cluster>-<time>.db``."""


class EtcdClusterArgs(TypedDict):
    """Arguments of EtcdCluster."""

    image: NotRequired[Annotated[Later[Image], image_of("etcd")]]
    """Image with etcd 3.6: the project's, or the upstream one."""
    tools_image: NotRequired[
        Annotated[Later[Image], DefaultsTo('``hosting.images["etcd"]``, or else ``image``')]
    ]
    """The project's image ``etcd``, for everything but the etcd server."""
    members: NotRequired[
        Annotated[
            int,
            Constraint("1, 3 or 5", lambda members: members in SIZES, (-1, 0, 2, 4, 6, 7)),
            Default(3),
        ]
    ]
    """Number of members. A quorum of 3 tolerates one failure, of 5 two."""
    quota_mib: NotRequired[Annotated[int, between(16, _MOST_MB), Default(512)]]
    """Maximum size of the data in MiB; above it etcd refuses writes."""
    heartbeat_ms: NotRequired[Annotated[int, between(20, 5000), Default(100)]]
    """Milliseconds between two heartbeats of the leader: at least about one round trip and one write
    to disk."""
    election_ms: NotRequired[Annotated[int, between(100, 50_000), DefaultsTo("ten heartbeats")]]
    """Election timeout: milliseconds without a heartbeat after which the other members elect a leader;
    at least five heartbeats."""
    compaction_minutes: NotRequired[Annotated[int, between(1, 10_080), Default(60)]]
    """Minutes for which old revisions of keys are kept."""
    defragmentation: NotRequired[Annotated[DefragmentationArgs, Default({})]]
    """When members defragment their files; by default each night, if half of a file is free."""
    snapshots: NotRequired[SnapshotsArgs]
    """Regular snapshots. By default none are taken."""
    restore: NotRequired[RestoreArgs]
    """The snapshot to restore at first. Removing the argument afterwards, or leaving it, changes no
    data."""
    users: NotRequired[Annotated[Mapping[UserName, EtcdUserArgs], Default({})]]
    """Users by their names. ``user(name)`` returns the reach of one. A user that is no longer declared
    is deleted with its role; users that an operator created by hand stay."""
    rotation: NotRequired[Annotated[RotationArgs, Default({})]]
    """Rotation of generated passwords: root's, and those of users. Root has one valid password at any
    time, so ``keep_former`` concerns the users only."""
    root_password: NotRequired[
        Annotated[
            _Password,
            DefaultsTo(
                "generated with the cluster, replaced as ``rotation`` says, and deleted with it"
            ),
        ]
    ]
    """Password of the user ``root``. A snapshot holds root's password: to restore it into another
    cluster, keep the password outside and give it here."""
    former_root_password: NotRequired[_Password]
    """Root's former password, with which the Job logs in to set the current one. Needed if
    ``root_password`` has changed or is no longer given, or if a restored snapshot is older. Of a
    generated password the previous generation is known."""
    authority: NotRequired[Annotated[Issuer, DefaultsTo("one of its own")]]
    """Authority that issues the certificate that clients verify. Certificates between members are
    always issued by the cluster's own."""
    clients: NotRequired[Clients]
    """Clients that may connect to the members, besides workloads with ``reach`` or a user's reach in
    ``reaches``; ``{}`` is every pod of the namespace."""
    metrics_clients: NotRequired[Clients]
    """Clients that may scrape port 2381, besides a Prometheus that has the ``job``; ``{}`` is every pod
    of the namespace."""
    hosting: NotRequired[Annotated[StatefulHosting, Default({})]]
    """Namespace, labels, nodes, spread and resources. Default requests are cpu 100m and memory 128Mi;
    the default memory limit is the quota plus 256Mi. ``storage.size`` is at least twice the quota,
    which a defragmentation needs, plus 512Mi for the log. ``resources``, ``storage`` and ``spread``
    apply to the members only."""


def complete(where: str, name: str, args: EtcdClusterArgs) -> EtcdClusterArgs:
    """The arguments of a cluster, checked and completed with defaults.

    :raises InputError: an invalid argument
    """
    check_name(where, name, service=True)
    args = resolved(where, EtcdClusterArgs, args)
    heartbeat, quota = args["heartbeat_ms"], args["quota_mib"]
    election = args.setdefault("election_ms", 10 * heartbeat)
    if election < 5 * heartbeat:
        raise InputError(
            where, "election_ms", election, f"must be at least {5 * heartbeat}, five heartbeats"
        )
    generated = [user for user in args["users"].values() if "password" not in user]
    check_rotation(
        where, args["rotation"], generated="root_password" not in args or bool(generated)
    )
    least = 2 * quota + _LOG_MB
    args.setdefault("tools_image", args["hosting"]["images"].get("etcd", args["image"]))
    hosting = with_resources(
        where,
        args["hosting"],
        requests={"cpu": "100m", "memory": "128Mi"},
        limits={"memory": f"{quota + 256}Mi"},
    )
    args["hosting"] = with_storage(
        where, hosting, least, "twice the quota for a defragmentation, plus the log"
    )
    return args


def etcd_yaml(token: str, args: EtcdClusterArgs) -> str:
    """The configuration file, without what differs between members."""
    return f"""\
# etcd. Generated; the names and addresses of each member are added where it starts.
data-dir: {STORAGE}/data
listen-client-urls: https://0.0.0.0:{CLIENT_PORT}
listen-peer-urls: https://0.0.0.0:{PEER_PORT}
# Probes and metrics; the NetworkPolicy says who is let in.
listen-metrics-urls: http://0.0.0.0:{METRICS_PORT}
tls-min-version: TLS1.3
client-transport-security:
  cert-file: {CLIENT}/tls.crt
  key-file: {CLIENT}/tls.key
peer-transport-security:
  cert-file: {PEER}/tls.crt
  key-file: {PEER}/tls.key
  client-cert-auth: true
  trusted-ca-file: {PEER}/ca.crt
  # The authority is the members' own. Asking DNS for each connection as well would keep
  # out a member whose pod has a new address.
  skip-client-san-verification: true
# Tokens that every member can verify, also after a restart.
auth-token: {_TOKEN}
enable-grpc-gateway: true
initial-cluster-token: "{token}"
strict-reconfig-check: true
heartbeat-interval: {args["heartbeat_ms"]}
election-timeout: {args["election_ms"]}
quota-backend-bytes: {args["quota_mib"] * MIB}
auto-compaction-mode: periodic
auto-compaction-retention: "{args["compaction_minutes"]}m"
# A member compares its data with the others' before it serves.
feature-gates: InitialCorruptCheck=true
"""
