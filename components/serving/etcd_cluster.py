"""EtcdCluster: the consistent store that ownership is kept in (chapter 9).

Members are StatefulSet pods with a volume each. Before etcd starts, a small program of the project
(``images/etcd``) completes its configuration and brings an empty volume into the cluster: as a
member of a new cluster if all are empty, as a replacement if others have data.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import ResourceRequirementsArgsDict

from components.platform.certificates import Authority, Certificate
from components.platform.generated import Password
from components.pods import labels as pod_labels
from components.values import checks
from components.values.edges import Edge
from components.values.errors import InputError
from components.values.etcd import EtcdTopology, EtcdUser
from components.values.names import child
from components.workloads.application import Application, ApplicationArgs
from components.workloads.arguments import PodArgs
from components.workloads.scheduled import ScheduledTask, ScheduledTaskArgs, schedule
from components.workloads.stateful import (
    StatefulApplication,
    StatefulApplicationArgs,
    StorageArgs,
    replica_services,
)
from components.workloads.task import Task, TaskArgs

CLIENT_PORT, PEER_PORT, METRICS_PORT, SNAPSHOT_PORT = 2379, 2380, 2381, 2382
SIZES = (1, 3, 5)
"""Members: an even number bears no more losses than the odd one below it."""

_STORAGE = "/var/lib/etcd"
_COMPLETE = "/run/etcd/etcd.yaml"
_CONFIG = "/etc/etcd/config"
_PEER, _CLIENT, _TOKENS = "/etc/etcd/peer", "/etc/etcd/client", "/etc/etcd/tokens"
_ROOT_PASSWORD = "/etc/etcd/root/password"  # noqa: S105 (a path)
_ACCESS = "/etc/etcd/access/access.json"
_MAINTENANCE = "/etc/etcd/maintenance/maintenance.json"
_SNAPSHOTS = "/var/lib/etcd-snapshots"
_TOKEN = f"jwt,pub-key={_TOKENS}/tls.crt,priv-key={_TOKENS}/tls.key,sign-method=ES256,ttl=10m"
_CLIENT_PREFIX = "dds/client-of-"
# Until then after its first update a cluster may begin empty; later, empty means lost.
_FOUND_MINUTES = 60
# The StatefulSet needs eleven characters for its own, the client label 14.
_RESERVE = 14
_SCHEDULED_LIMIT, _TASK_LIMIT = 39, 48
_MIB = 2**20
# A write-ahead log of five files of 64 MB, and a snapshot beside it.
_LOG_MB = 512
_PREFIX = re.compile(r"[!-~]{1,256}")
_USER = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")
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


class EtcdCluster(pulumi.ComponentResource):
    """Members of an etcd cluster with TLS, users, upkeep and a way back.

    Registers a StatefulSet with volumes and all that belongs to it (a NetworkPolicy that lets in
    pods with the client label only; a PodDisruptionBudget that takes one member at a time), a
    Service with an address of its own for each member, two authorities with their certificates, a Job that enables authentication, a CronJob for
    defragmentation, and one for snapshots if they are wanted. The update is done when
    authentication is on.
    """

    topology: EtcdTopology
    """Where the members are, for clients."""
    application: StatefulApplication
    """The members."""
    root_password: pulumi.Output[str]
    """Password of the user ``root``; a secret."""
    snapshot: ScheduledTask | None
    """What takes snapshots, if they are wanted."""
    defragmentation: ScheduledTask
    """What defragments."""

    def __init__(
        self, name: str, args: EtcdClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the cluster.

        :param name: a DNS label of at most 49 characters, unique in its namespace
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'EtcdCluster "{name}"'
        settings = _checked(where, name, args)
        plan = _Plan(name, args, settings)
        StatefulApplication.validate(where, name, plan.members(_NOTHING, "", None))
        super().__init__(
            "dds:index:EtcdCluster",
            name,
            {"image": args["image"], "members": settings.members},
            opts,
        )
        self._plan = plan
        self._users: set[str] = set()
        own = pulumi.ResourceOptions(parent=self)
        keys = _Keys.made(name, plan, args.get("authority"), own)
        self.root_password = pulumi.Output.secret(
            args["root_password"]
            if "root_password" in args
            else Password(f"{name}-root", {}, own).value
        )
        self.topology = EtcdTopology(
            name=name,
            endpoints=plan.endpoints,
            authority=keys.client["ca.crt"],
            client_label=plan.client_label,
            server_labels=plan.selector,
            port=CLIENT_PORT,
        )
        before: list[pulumi.Resource] = [
            *replica_services(
                name,
                settings.members,
                selector=plan.selector,
                ports={"client": CLIENT_PORT, "peer": PEER_PORT},
                namespace=args.get("namespace"),
                # Members find each other before any of them is ready.
                not_ready=True,
                opts=own,
            )
        ]
        restore_host: pulumi.Input[str] | None = None
        if "restore" in args:
            server = Application(plan.restore_name, plan.restore_server(args["restore"], keys), own)
            before.append(server)
            endpoint = pulumi.Output.from_input(server.endpoint)
            restore_host = endpoint.apply(lambda known: str(known).partition(":")[0])
        secret_files = keys.files() | {_ROOT_PASSWORD: self.root_password}
        self.application = StatefulApplication(
            name,
            plan.members(secret_files, keys.created, restore_host),
            pulumi.ResourceOptions(parent=self, depends_on=before),
        )
        ready = pulumi.ResourceOptions(parent=self, depends_on=[self.application])
        self._access = ready
        self._enabled = Task(
            child(name, "access", limit=_TASK_LIMIT),
            plan.access(self.topology, self.root_password, {}),
            ready,
        )
        self.defragmentation = ScheduledTask(
            child(name, "defragment", limit=_SCHEDULED_LIMIT),
            plan.defragment(self.topology, self.root_password),
            ready,
        )
        self.snapshot = None
        if "snapshots" in args:
            self.snapshot = ScheduledTask(
                child(name, "snapshot", limit=_SCHEDULED_LIMIT),
                plan.snapshot(args["snapshots"], self.topology, self.root_password),
                ready,
            )
        self.register_outputs({"endpoints": list(plan.endpoints)})

    def user(self, name: str, prefix: str) -> EtcdUser:
        """Register a user that may read and write the keys with a prefix, and no others.

        A Job creates it, or gives it another prefix, without anybody's doing.

        :param name: from 1 to 32 lower-case letters, digits and dashes; not ``root``
        :param prefix: beginning of the keys: printable ASCII without blanks, such as ``/shop/``
        :raises InputError: for a name that is there already, or a bad name or prefix
        """
        where = f'{self._plan.where}, user "{name}"'
        if not _USER.fullmatch(name) or name == "root":
            raise InputError(
                where, "name", name,
                "must have from 1 to 32 lower-case letters, digits and dashes, and not be root",
            )  # fmt: skip
        if name in self._users:
            raise InputError(where, "name", name, "must be unique, it stands twice")
        if not _PREFIX.fullmatch(prefix):
            raise InputError(
                where, "prefix", prefix,
                "must have from 1 to 256 printable characters without blanks, such as /shop/",
            )  # fmt: skip
        self._users.add(name)
        own = pulumi.ResourceOptions(parent=self)
        resource = child(self._plan.name, f"user-{name}", limit=_TASK_LIMIT)
        password = Password(resource, {}, own)
        task = Task(
            resource,
            self._plan.access(self.topology, self.root_password, {name: (prefix, password.value)}),
            pulumi.ResourceOptions(parent=self, depends_on=[self.application, self._enabled]),
        )
        # Known when the Job is done, so that what uses it waits for the user.
        there = pulumi.Output.all(password.value, task.job.id).apply(lambda known: str(known[0]))
        return EtcdUser(name, pulumi.Output.secret(there), prefix)


_NOTHING: Mapping[str, pulumi.Input[str]] = {
    f"{folder}/x": "" for folder in (_PEER, _CLIENT, _TOKENS, _ROOT_PASSWORD.rpartition("/")[0])
}


@dataclasses.dataclass(frozen=True)
class _Keys:
    """Certificates and keys, by the names of their files."""

    peer: Mapping[str, pulumi.Output[str]]
    client: Mapping[str, pulumi.Output[str]]
    tokens: Mapping[str, pulumi.Output[str]]
    created: pulumi.Output[str]

    @classmethod
    def made(
        cls, name: str, plan: "_Plan", authority: Authority | None, opts: pulumi.ResourceOptions
    ) -> "_Keys":
        peers = Authority(f"{name}-peers", {"common_name": "etcd peers"}, opts)
        clients = authority or Authority(f"{name}-clients", {"common_name": "etcd"}, opts)
        peer = Certificate(
            f"{name}-peer",
            {
                "authority": peers,
                "common_name": "etcd peer",
                "dns_names": plan.hosts(),
                "usages": ["server", "client"],
            },
            opts,
        )
        client = Certificate(
            f"{name}-server",
            {
                "authority": clients,
                "common_name": "etcd",
                "dns_names": [*plan.hosts(), "localhost"],
                "ip_addresses": ["127.0.0.1"],
            },
            opts,
        )
        # A pair of keys for tokens; nobody connects with it.
        tokens = Certificate(
            f"{name}-tokens",
            {"authority": peers, "common_name": "etcd tokens", "usages": ["client"]},
            opts,
        )
        return cls(_pem(peer), _pem(client), _pem(tokens), peers.created)

    def files(self) -> dict[str, pulumi.Input[str]]:
        return {
            **_in(_PEER, self.peer),
            **_in(_CLIENT, self.client),
            **{
                path: pem for path, pem in _in(_TOKENS, self.tokens).items() if "ca.crt" not in path
            },
        }


def _pem(certificate: Certificate) -> Mapping[str, pulumi.Output[str]]:
    return {
        "ca.crt": certificate.authority,
        "tls.crt": certificate.certificate,
        "tls.key": certificate.key,
    }


def _in(folder: str, files: Mapping[str, pulumi.Output[str]]) -> dict[str, pulumi.Input[str]]:
    return {f"{folder}/{file}": content for file, content in files.items()}


@dataclasses.dataclass(frozen=True)
class _Settings:
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
            f"data-dir: {_STORAGE}/data",
            f"listen-client-urls: https://0.0.0.0:{CLIENT_PORT}",
            f"listen-peer-urls: https://0.0.0.0:{PEER_PORT}",
            "# Probes and metrics; the NetworkPolicy lets nobody in.",
            f"listen-metrics-urls: http://0.0.0.0:{METRICS_PORT}",
            "tls-min-version: TLS1.3",
            "client-transport-security:",
            f"  cert-file: {_CLIENT}/tls.crt",
            f"  key-file: {_CLIENT}/tls.key",
            "peer-transport-security:",
            f"  cert-file: {_PEER}/tls.crt",
            f"  key-file: {_PEER}/tls.key",
            "  client-cert-auth: true",
            f"  trusted-ca-file: {_PEER}/ca.crt",
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
            f"quota-backend-bytes: {self.quota_mb * _MIB}",
            "auto-compaction-mode: periodic",
            f'auto-compaction-retention: "{self.compaction_minutes}m"',
            "# A member compares its data with the others' before it serves.",
            "feature-gates: InitialCorruptCheck=true",
        ]
        return "\n".join(lines) + "\n"


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The workloads of one cluster, from its checked arguments."""

    name: str
    args: EtcdClusterArgs
    settings: _Settings

    @property
    def where(self) -> str:
        return f'EtcdCluster "{self.name}"'

    @property
    def pods(self) -> list[str]:
        return [f"{self.name}-{ordinal}" for ordinal in range(self.settings.members)]

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(f"https://{pod}:{CLIENT_PORT}" for pod in self.pods)

    @property
    def client_label(self) -> tuple[str, str]:
        return (f"{_CLIENT_PREFIX}{self.name}", "true")

    @property
    def selector(self) -> dict[str, str]:
        return pod_labels.selector("etcd", self.name, "member")

    @property
    def restore_name(self) -> str:
        return child(self.name, "restore", limit=_TASK_LIMIT)

    def hosts(self) -> list[pulumi.Input[str]]:
        """Every name under which a member is reached."""
        names: list[pulumi.Input[str]] = [*self.pods]
        if "namespace" in self.args:
            names += [
                pulumi.Output.concat(pod, ".", self.args["namespace"], end)
                for pod in self.pods
                for end in (".svc", ".svc.cluster.local")
            ]
        return names

    def members(
        self,
        secret_files: Mapping[str, pulumi.Input[str]],
        created: pulumi.Input[str],
        restore_host: pulumi.Input[str] | None,
    ) -> StatefulApplicationArgs:
        """The members themselves."""
        settings, args = self.settings, self.args
        storage: StorageArgs = {
            "path": _STORAGE,
            "size": settings.storage_size,
            "delete_with_workload": args.get("delete_data", False),
        }
        if "storage_class" in args:
            storage["storage_class"] = args["storage_class"]
        egress = [Edge(ports=(CLIENT_PORT, PEER_PORT), pods=self.selector)]
        if "restore" in args:
            server = pod_labels.selector("etcd-restore", self.restore_name, "snapshots")
            egress.append(Edge(ports=(SNAPSHOT_PORT,), pods=server))
        workload: StatefulApplicationArgs = {
            "image": args["image"],
            "application": "etcd",
            "component": "member",
            # No shell: upstream's image has none.
            "command": ["etcd", f"--config-file={_COMPLETE}"],
            "preparations": [
                {
                    "name": "prepare",
                    "image": args.get("tools_image", args["image"]),
                    "command": ["python3", "-m", "member", "prepare"],
                }
            ],
            "files": {
                f"{_CONFIG}/etcd.yaml": settings.yaml(self.name),
                f"{_CONFIG}/cluster.json": self._cluster_json(created, restore_host),
            },
            "secret_files": secret_files,
            "writable": [_COMPLETE.rpartition("/")[0]],
            "storage": storage,
            "ports": [
                {"name": "client", "port": CLIENT_PORT},
                {"name": "peer", "port": PEER_PORT},
                {"name": "metrics", "port": METRICS_PORT},
            ],
            "expose": ["client"],
            "clients": [dict([self.client_label])],
            "ingress": [
                Edge(ports=(CLIENT_PORT, PEER_PORT), pods=self.selector),
                *args.get("ingress", ()),
            ],
            "egress": egress,
            "replicas": settings.members,
            "spread": args.get("spread", "soft"),
            "resources": args.get("resources")
            or {
                "requests": {"cpu": "100m", "memory": "128Mi"},
                "limits": {"memory": f"{settings.quota_mb + 256}Mi"},
            },
            # Alive without a quorum; ready with one only. A long log takes its time at the start.
            "startup": {"path": "/livez", "port": "metrics", "failure_threshold": 300},
            "readiness": {"path": "/readyz", "port": "metrics", "period_seconds": 3},
            "liveness": {"path": "/livez", "port": "metrics"},
            # Clients try the other members, so waiting before the end helps nobody.
            "drain_seconds": 0,
            "grace_seconds": 20,
        }
        if "namespace" in args:
            workload["namespace"] = args["namespace"]
        return workload

    def _cluster_json(
        self, created: pulumi.Input[str], restore_host: pulumi.Input[str] | None
    ) -> pulumi.Output[str]:
        restore = self.args.get("restore")

        def text(known: Sequence[Any]) -> str:
            document = {
                "members": self.pods,
                "token": self.name,
                "created": known[0],
                "found_minutes": _FOUND_MINUTES,
                "restore": restore and {"host": known[1], "file": restore["file"]},
            }
            return json.dumps(document, indent=1)

        return pulumi.Output.all(created, restore_host).apply(text)

    def restore_server(self, restore: RestoreArgs, keys: _Keys) -> ApplicationArgs:
        """What hands the snapshot to members."""
        server: ApplicationArgs = {
            "image": self._tools(),
            "application": "etcd-restore",
            "component": "snapshots",
            "command": ["python3", "-m", "member", "serve"],
            "secret_files": _in(_PEER, keys.peer),
            "ports": [{"name": "snapshots", "port": SNAPSHOT_PORT}],
            "clients": [self.selector],
            "volumes": [
                {
                    "name": "snapshots",
                    "persistent_volume_claim": {"claim_name": restore["claim"], "read_only": True},
                }
            ],
            "volume_mounts": [{"name": "snapshots", "mount_path": _SNAPSHOTS, "read_only": True}],
            "grace_seconds": 5,
        }
        if "namespace" in self.args:
            server["namespace"] = self.args["namespace"]
        return server

    def access(
        self,
        topology: EtcdTopology,
        root_password: pulumi.Output[str],
        users: Mapping[str, tuple[str, pulumi.Output[str]]],
    ) -> TaskArgs:
        """What enables authentication and makes users."""
        plan = {
            "endpoints": list(self.endpoints),
            "users": [
                {"name": name, "prefix": prefix, "password_file": f"/etc/etcd/users/{name}"}
                for name, (prefix, _) in users.items()
            ],
        }
        task: TaskArgs = {
            **self._client("access", topology, root_password),  # type: ignore[typeddict-item]
            "timeout_seconds": 240,
        }
        task["files"] = {**task["files"], _ACCESS: json.dumps(plan, indent=1)}
        task["secret_files"] = {
            **task["secret_files"],
            **{f"/etc/etcd/users/{name}": password for name, (_, password) in users.items()},
        }
        if "restore" in self.args:
            # A restored cluster has the users of its snapshot.
            task["annotations"] = {"dds/restored": self.args["restore"]["file"]}
        return task

    def defragment(
        self, topology: EtcdTopology, root_password: pulumi.Output[str]
    ) -> ScheduledTaskArgs:
        """What gives free pages back."""
        plan = {
            "endpoints": list(self.endpoints),
            "free_fraction": self.settings.free_percent / 100,
            "least_bytes": self.settings.least_mb * _MIB,
        }
        task: ScheduledTaskArgs = {
            **self._client("defragment", topology, root_password),  # type: ignore[typeddict-item]
            "schedule": self.settings.defragmented,
            "timeout_seconds": 1800,
        }
        task["files"] = {**task["files"], _MAINTENANCE: json.dumps(plan, indent=1)}
        return task

    def snapshot(
        self,
        snapshots: SnapshotsArgs,
        topology: EtcdTopology,
        root_password: pulumi.Output[str],
    ) -> ScheduledTaskArgs:
        """What takes snapshots."""
        plan = {
            "endpoints": list(self.endpoints),
            "name": self.name,
            "keep": self.settings.keep,
        }
        task: ScheduledTaskArgs = {
            **self._client("snapshot", topology, root_password),  # type: ignore[typeddict-item]
            "schedule": self.settings.snapshots_taken,
            "timeout_seconds": 900,
            "volumes": [
                {
                    "name": "snapshots",
                    "persistent_volume_claim": {"claim_name": snapshots["claim"]},
                }
            ],
            "volume_mounts": [{"name": "snapshots", "mount_path": _SNAPSHOTS}],
        }
        task["files"] = {**task["files"], _MAINTENANCE: json.dumps(plan, indent=1)}
        return task

    def _tools(self) -> pulumi.Input[str]:
        return self.args.get("tools_image", self.args["image"])

    def _client(
        self, verb: str, topology: EtcdTopology, root_password: pulumi.Output[str]
    ) -> PodArgs:
        """A pod of the project's program that talks to the members as root."""
        pod: PodArgs = {
            "image": self._tools(),
            "application": "etcd-tools",
            "component": verb,
            "command": ["python3", "-m", "member", verb],
            "files": {f"{_CLIENT}/ca.crt": topology.authority},
            "secret_files": {_ROOT_PASSWORD: root_password},
            "labels": dict([self.client_label]),
            "egress": [Edge(ports=(CLIENT_PORT,), pods=self.selector)],
        }
        if "namespace" in self.args:
            pod["namespace"] = self.args["namespace"]
        return pod


def _checked(where: str, name: str, args: EtcdClusterArgs) -> _Settings:
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
    return _Settings(
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
    if checks.amount(size) < least * _MIB:
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
