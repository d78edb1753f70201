"""The workloads of an etcd cluster: its members, and what works for them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pulumi

from components.platform.certificates import Authority, Certificate
from components.platform.generated import Rotated, given, rotated
from components.pods import labels as pod_labels
from components.pods.hosting import ApplicationHosting, PodHosting, narrowed, with_pod_annotations
from components.serving.etcd_settings import (
    CLIENT,
    CLIENT_PORT,
    METRICS_PORT,
    MIB,
    PEER,
    PEER_PORT,
    ROOT,
    SNAPSHOT_PORT,
    STORAGE,
    TOKENS,
    USERS,
    EtcdClusterArgs,
    RestoreArgs,
    SnapshotsArgs,
    etcd_yaml,
)
from components.values.names import child
from components.values.reach import Reach
from components.workloads.application import ApplicationArgs
from components.workloads.arguments import PodArgs
from components.workloads.scheduled import ScheduledTaskArgs
from components.workloads.stateful import StatefulApplicationArgs
from components.workloads.task import TaskArgs

_COMPLETE = "/run/etcd/etcd.yaml"
_CONFIG = "/etc/etcd/config"
ROOT_PASSWORDS = f"{ROOT}/passwords"
_ACCESS = "/etc/etcd/access/access.json"
_MAINTENANCE = "/etc/etcd/maintenance/maintenance.json"
_SNAPSHOTS = "/var/lib/etcd-snapshots"
# Until then after its first update a cluster may begin empty; later, empty means lost.
_FOUND_MINUTES = 60
_OF_MEMBERS = ("resources", "min_ready_seconds", "service_annotations")
SCHEDULED_LIMIT, TASK_LIMIT = 39, 48


# A cluster whose certificates have ended cannot be mended by an update that needs its members, so
# theirs live longer than the 90 days that others do.
_VALIDITY_DAYS = 365

NO_KEYS: Mapping[str, pulumi.Input[str]] = {
    f"{folder}/x": "" for folder in (PEER, CLIENT, TOKENS, ROOT)
}
"""Stands for the keys where only the rest of the arguments is checked."""


@dataclasses.dataclass(frozen=True)
class EtcdKeys:
    """Certificates and keys, by the names of their files."""

    peer: Mapping[str, pulumi.Output[str]]
    client: Mapping[str, pulumi.Output[str]]
    tokens: Mapping[str, pulumi.Output[str]]
    created: pulumi.Output[str]

    @classmethod
    def made(
        cls,
        plan: "EtcdPlan",
        namespace: pulumi.Input[str],
        authority: Authority | None,
        opts: pulumi.ResourceOptions,
    ) -> "EtcdKeys":
        """Register the authorities and certificates of a cluster.

        :param namespace: as the cluster has it
        """
        name, hosts = plan.name, plan.hosts(namespace)
        peers = Authority(f"{name}-peers", {"common_name": "etcd peers"}, opts)
        clients = authority or Authority(f"{name}-clients", {"common_name": "etcd"}, opts)
        peer = Certificate(
            f"{name}-peer",
            {
                "authority": peers,
                "common_name": "etcd peer",
                "dns_names": hosts,
                "usages": ["server", "client"],
                "validity_days": _VALIDITY_DAYS,
            },
            opts,
        )
        client = Certificate(
            f"{name}-server",
            {
                "authority": clients,
                "common_name": "etcd",
                "dns_names": [*hosts, "localhost"],
                "ip_addresses": ["127.0.0.1"],
                "validity_days": _VALIDITY_DAYS,
            },
            opts,
        )
        # A pair of keys for tokens; nobody connects with it.
        tokens = Certificate(
            f"{name}-tokens",
            {
                "authority": peers,
                "common_name": "etcd tokens",
                "usages": ["client"],
                "validity_days": _VALIDITY_DAYS,
            },
            opts,
        )
        return cls(_pem(peer), _pem(client), _pem(tokens), peers.created)

    def files(self) -> dict[str, pulumi.Input[str]]:
        """The files of a member, by their paths."""
        return {
            **_in(PEER, self.peer),
            **_in(CLIENT, self.client),
            **{path: pem for path, pem in _in(TOKENS, self.tokens).items() if "ca.crt" not in path},
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
class EtcdUser:
    """A declared user: what etcd knows it by."""

    name: str
    """As it is declared."""
    prefix: str
    password: Rotated


@dataclasses.dataclass(frozen=True)
class EtcdPasswords:
    """The passwords of a cluster."""

    root: pulumi.Output[str]
    """The present one; a secret."""
    root_known: pulumi.Output[list[str]]
    """That and those which root may still have, in the order in which they are tried."""
    users: Mapping[str, EtcdUser]
    """By the declared names."""

    @classmethod
    def made(cls, plan: "EtcdPlan", opts: pulumi.ResourceOptions) -> "EtcdPasswords":
        """Register those that are generated."""
        args = plan.args
        rotation = args["rotation"]
        if "root_password" in args:
            root = given(args["root_password"])
        else:
            # The former one is not good beside the other, but what sets that logs in with it.
            root = rotated(f"{plan.name}-root", {**rotation, "keep_former": True}, opts)
        users = {}
        for name, user in args["users"].items():
            if "password" in user:
                password = given(user["password"])
            else:
                resource = child(plan.name, f"user-{name}", limit=TASK_LIMIT)
                password = rotated(resource, rotation, opts)
            users[name] = EtcdUser(name, user["prefix"], password)
        earlier = pulumi.Output.secret(args.get("former_root_password", ""))
        known = pulumi.Output.all(root.accepted, earlier).apply(
            lambda both: [*both[0], both[1]] if both[1] else list(both[0])
        )
        return cls(root.value, known, users)

    def root_file(self) -> dict[str, pulumi.Input[str]]:
        """What a pod that logs in as root mounts: a password in each line."""
        return {ROOT_PASSWORDS: _lines(self.root_known)}

    def user_files(self) -> dict[str, pulumi.Input[str]]:
        """The same of each user, in the order of its logins."""
        return {
            f"{USERS}/{name}": _lines(user.password.accepted) for name, user in self.users.items()
        }


def _lines(passwords: pulumi.Output[list[str]]) -> pulumi.Output[str]:
    return passwords.apply("\n".join)


@dataclasses.dataclass(frozen=True)
class EtcdPlan:
    """The workloads of one cluster, from its checked arguments."""

    name: str
    args: EtcdClusterArgs

    @property
    def where(self) -> str:
        """What errors name."""
        return f'EtcdCluster "{self.name}"'

    @property
    def pods(self) -> list[str]:
        """The members' names, each also of its Service."""
        return [f"{self.name}-{ordinal}" for ordinal in range(self.args["members"])]

    @property
    def selector(self) -> dict[str, str]:
        """The labels that all members have."""
        return pod_labels.selector("etcd", self.name, "member")

    @property
    def restore_name(self) -> str:
        """Name of what hands the snapshot to members."""
        return child(self.name, "restore", limit=TASK_LIMIT)

    def hosts(self, namespace: pulumi.Input[str]) -> list[pulumi.Input[str]]:
        """Every name under which a member is reached."""
        return [
            *self.pods,
            *(
                pulumi.Output.concat(pod, ".", namespace, end)
                for pod in self.pods
                for end in (".svc", ".svc.cluster.local")
            ),
        ]

    def members(
        self,
        secret_files: Mapping[str, pulumi.Input[str]],
        created: pulumi.Input[str],
        snapshot: Reach | None,
    ) -> StatefulApplicationArgs:
        """The members themselves.

        :param snapshot: what hands it to them
        """
        args = self.args
        peers = Reach(
            name=self.name,
            endpoints=tuple(f"{pod}:{PEER_PORT}" for pod in self.pods),
            pods=self.selector,
            ports=(CLIENT_PORT, PEER_PORT),
            isolated=True,
        )
        return {
            "image": args["image"],
            "application": "etcd",
            "component": "member",
            # No shell: upstream's image has none.
            "command": ["etcd", f"--config-file={_COMPLETE}"],
            "preparations": [
                {
                    "name": "prepare",
                    "image": args["tools_image"],
                    "command": ["python3", "-m", "member", "prepare"],
                }
            ],
            "files": {
                f"{_CONFIG}/etcd.yaml": etcd_yaml(self.name, args),
                f"{_CONFIG}/cluster.json": self._cluster_json(created, snapshot),
            },
            "secret_files": secret_files,
            "writable": [_COMPLETE.rpartition("/")[0]],
            "storage_path": STORAGE,
            "ports": [
                {"name": "client", "port": CLIENT_PORT},
                {"name": "peer", "port": PEER_PORT},
                {
                    "name": "metrics",
                    "port": METRICS_PORT,
                    "app_protocol": "http",
                    "clients": args["metrics_clients"],
                },
            ],
            "expose": ["client", "metrics"],
            "clients": args["clients"],
            "reaches": [peers] if snapshot is None else [peers, snapshot],
            "replicas": args["members"],
            "hosting": args["hosting"],
            # Alive without a quorum; ready with one only. A long log takes its time at the start.
            "startup": {"path": "/livez", "port": "metrics", "failure_threshold": 300},
            "readiness": {"path": "/readyz", "port": "metrics", "period_seconds": 3},
            "liveness": {"path": "/livez", "port": "metrics"},
            # Clients try the other members, so waiting before the end helps nobody.
            "drain_seconds": 0,
            "grace_seconds": 20,
        }

    def _cluster_json(
        self, created: pulumi.Input[str], snapshot: Reach | None
    ) -> pulumi.Output[str]:
        restore = self.args.get("restore")
        host = snapshot and snapshot.endpoint.apply(lambda known: known.partition(":")[0])

        def text(known: Sequence[Any]) -> str:
            document = {
                "members": self.pods,
                "token": self.name,
                "created": known[0],
                "found_minutes": _FOUND_MINUTES,
                "restore": restore and {"host": known[1], "file": restore["file"]},
            }
            return json.dumps(document, indent=1)

        return pulumi.Output.all(created, host).apply(text)

    def restore_server(self, restore: RestoreArgs, keys: EtcdKeys) -> ApplicationArgs:
        """What hands the snapshot to members."""
        return {
            "image": self.args["tools_image"],
            "application": "etcd-restore",
            "component": "snapshots",
            "command": ["python3", "-m", "member", "serve"],
            "secret_files": _in(PEER, keys.peer),
            "ports": [{"name": "snapshots", "port": SNAPSHOT_PORT}],
            "volumes": [
                {
                    "name": "snapshots",
                    "persistent_volume_claim": {"claim_name": restore["claim"], "read_only": True},
                }
            ],
            "volume_mounts": [{"name": "snapshots", "mount_path": _SNAPSHOTS, "read_only": True}],
            "grace_seconds": 5,
            "hosting": narrowed(self.args["hosting"], ApplicationHosting, without=_OF_MEMBERS),
        }

    def access(self, members: Reach, passwords: EtcdPasswords) -> TaskArgs:
        """What enables authentication, and makes root and the users what they are to be."""
        task: TaskArgs = {
            **self._client("access", members, passwords),  # type: ignore[typeddict-item]
            "timeout_seconds": 240,
            "hosting": self._tools_hosting(),
        }
        users = [
            {
                "name": user.name,
                "prefix": user.prefix,
                "logins": user.password.logins(user.name),
                "passwords_file": f"{USERS}/{user.name}",
            }
            for user in passwords.users.values()
        ]
        task["files"] = {**task["files"], _ACCESS: _told(members, {"users": users})}
        task["secret_files"] = {**task["secret_files"], **passwords.user_files()}
        if "restore" in self.args:
            # A restored cluster has the users of its snapshot.
            task["hosting"] = with_pod_annotations(
                task["hosting"], {"dds/restored": self.args["restore"]["file"]}
            )
        return task

    def defragment(self, members: Reach, passwords: EtcdPasswords) -> ScheduledTaskArgs:
        """What gives free pages back."""
        defragmentation = self.args["defragmentation"]
        plan = {
            "free_fraction": defragmentation["free_percent"] / 100,
            "least_bytes": defragmentation["least_mb"] * MIB,
        }
        task: ScheduledTaskArgs = {
            **self._client("defragment", members, passwords),  # type: ignore[typeddict-item]
            "schedule": defragmentation["schedule"],
            "timeout_seconds": 1800,
            "hosting": self._tools_hosting(),
        }
        task["files"] = {**task["files"], _MAINTENANCE: _told(members, plan)}
        return task

    def snapshot(
        self, snapshots: SnapshotsArgs, members: Reach, passwords: EtcdPasswords
    ) -> ScheduledTaskArgs:
        """What takes snapshots."""
        plan = {"name": self.name, "keep": snapshots["keep"]}
        task: ScheduledTaskArgs = {
            **self._client("snapshot", members, passwords),  # type: ignore[typeddict-item]
            "schedule": snapshots["schedule"],
            "timeout_seconds": 900,
            "hosting": self._tools_hosting(),
            "volumes": [
                {
                    "name": "snapshots",
                    "persistent_volume_claim": {"claim_name": snapshots["claim"]},
                }
            ],
            "volume_mounts": [{"name": "snapshots", "mount_path": _SNAPSHOTS}],
        }
        task["files"] = {**task["files"], _MAINTENANCE: _told(members, plan)}
        return task

    def _client(self, verb: str, members: Reach, passwords: EtcdPasswords) -> PodArgs:
        """A pod of the project's program that talks to the members as root."""
        return {
            "image": self.args["tools_image"],
            "application": "etcd-tools",
            "component": verb,
            "command": ["python3", "-m", "member", verb],
            "files": {f"{CLIENT}/ca.crt": cast(pulumi.Output[str], members.authority)},
            "secret_files": passwords.root_file(),
            "reaches": [members],
        }

    def _tools_hosting(self) -> PodHosting:
        return narrowed(self.args["hosting"], PodHosting, without=_OF_MEMBERS)


def member_urls(members: Reach) -> pulumi.Output[list[str]]:
    """Where each member is asked, a URL."""
    return pulumi.Output.all(*members.endpoints).apply(
        lambda known: [f"https://{endpoint}" for endpoint in known]
    )


def _told(members: Reach, plan: Mapping[str, Any]) -> pulumi.Output[str]:
    """A plan for the project's program, with the members."""
    return pulumi.Output.all(endpoints=member_urls(members), **plan).apply(
        lambda known: json.dumps(known, indent=1)
    )
