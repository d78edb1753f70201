"""The workloads of an etcd cluster: its members, and the Jobs and CronJobs for them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import pulumi

from dds_patterns.platform.certificates import Authority, Certificate, CertificateArgs
from dds_patterns.platform.generated import Rotated, given, rotated
from dds_patterns.pods import labels as pod_labels
from dds_patterns.pods.hosting import ApplicationHosting, PodHosting, narrowed, with_pod_annotations
from dds_patterns.serving.etcd_settings import (
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
from dds_patterns.values.names import child
from dds_patterns.values.reach import Reach
from dds_patterns.workloads.application import ApplicationArgs
from dds_patterns.workloads.job import LONGEST_TASK
from dds_patterns.workloads.job_arguments import JobArgs
from dds_patterns.workloads.scheduled import ScheduledTaskArgs
from dds_patterns.workloads.stateful import StatefulApplicationArgs
from dds_patterns.workloads.task import TaskArgs

_COMPLETE = "/run/etcd/etcd.yaml"
_CONFIG = "/etc/etcd/config"
ROOT_PASSWORDS = f"{ROOT}/passwords"
_ACCESS = "/etc/etcd/access/access.json"
_MAINTENANCE = "/etc/etcd/maintenance/maintenance.json"
_SNAPSHOTS = "/var/lib/etcd-snapshots"
# For so long after its first update a cluster may bootstrap with empty volumes; later, empty
# volumes mean lost data.
_FOUND_MINUTES = 60
_OF_MEMBERS = ("resources", "min_ready_seconds", "service_annotations")


# An update needs the members, so it cannot repair a cluster whose certificates have expired.
# Therefore they are valid for longer than the usual 90 days.
_VALIDITY_DAYS = 365

NO_KEYS: Mapping[str, pulumi.Input[str]] = {
    f"{folder}/x": "" for folder in (PEER, CLIENT, TOKENS, ROOT)
}
"""Placeholder for the keys where only the other arguments are checked."""


@dataclasses.dataclass(frozen=True)
class EtcdKeys:
    """Certificates and keys, as files by their paths."""

    peer: Mapping[str, pulumi.Input[str]]
    """What members authenticate each other with."""
    member: Mapping[str, pulumi.Input[str]]
    """All that a member has."""
    authority: pulumi.Output[str]
    """What clients verify the members with."""
    created: pulumi.Output[str]

    @classmethod
    def made(
        cls, plan: "EtcdPlan", namespace: pulumi.Input[str], opts: pulumi.ResourceOptions
    ) -> "EtcdKeys":
        """Register the authorities and certificates of a cluster.

        :param namespace: as the cluster has it
        """
        name, hosts = plan.name, plan.hosts(namespace)
        peers = Authority(f"{name}-peers", {"common_name": "etcd peers"}, opts)
        clients = (
            plan.args.get("authority")
            or Authority(f"{name}-clients", {"common_name": "etcd"}, opts).issuer
        )

        def issued(kind: str, args: CertificateArgs) -> Certificate:
            lasting: CertificateArgs = {**args, "validity_days": _VALIDITY_DAYS}
            return Certificate(f"{name}-{kind}", lasting, opts)

        peer = issued(
            "peer",
            {
                "authority": peers.issuer,
                "common_name": "etcd peer",
                "dns_names": hosts,
                "usages": ["server", "client"],
            },
        )
        client = issued(
            "server",
            {
                "authority": clients,
                "common_name": "etcd",
                "dns_names": [*hosts, "localhost"],
                "ip_addresses": ["127.0.0.1"],
            },
        )
        # A key pair that signs tokens; no connection uses it.
        tokens = issued(
            "tokens",
            {"authority": peers.issuer, "common_name": "etcd tokens", "usages": ["client"]},
        )
        known = {f"{PEER}/ca.crt": peer.authority, **_pair(PEER, peer)}
        member = {
            **known,
            f"{CLIENT}/ca.crt": client.authority,
            **_pair(CLIENT, client),
            **_pair(TOKENS, tokens),
        }
        return cls(known, member, client.authority, peers.created)


def _pair(folder: str, certificate: Certificate) -> dict[str, pulumi.Input[str]]:
    return {f"{folder}/tls.crt": certificate.certificate, f"{folder}/tls.key": certificate.key}


@dataclasses.dataclass(frozen=True)
class EtcdUser:
    """A declared user of etcd."""

    name: str
    """As it is declared."""
    prefix: str
    password: Rotated


@dataclasses.dataclass(frozen=True)
class EtcdPasswords:
    """The passwords of a cluster."""

    root: pulumi.Output[str]
    """The current one; a secret."""
    root_known: pulumi.Output[list[str]]
    """The current one and those that may still be set for root, in the order of the attempts."""
    users: Mapping[str, EtcdUser]
    """By the declared names."""

    @classmethod
    def made(cls, plan: "EtcdPlan", opts: pulumi.ResourceOptions) -> "EtcdPasswords":
        """Register the generated passwords."""
        args = plan.args
        rotation = args["rotation"]
        if "root_password" in args:
            root = given(args["root_password"])
        else:
            # etcd accepts one password for root, but the Job that sets the new one logs in with the
            # former one.
            root = rotated(f"{plan.name}-root", {**rotation, "keep_former": True}, opts)
        users = {}
        for name, user in args["users"].items():
            if "password" in user:
                password = given(user["password"])
            else:
                resource = child(plan.name, f"user-{name}", limit=LONGEST_TASK)
                password = rotated(resource, rotation, opts)
            users[name] = EtcdUser(name, user["prefix"], password)
        earlier = pulumi.Output.secret(args.get("former_root_password", ""))
        known = pulumi.Output.all(root.accepted, earlier).apply(
            lambda both: [word for word in (*both[0], both[1]) if word]
        )
        return cls(root.value, known, users)

    def root_file(self) -> dict[str, pulumi.Input[str]]:
        """What a pod that logs in as root mounts: one password per line."""
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
        """The component, in error messages."""
        return f'EtcdCluster "{self.name}"'

    @property
    def pods(self) -> list[str]:
        """The members' names, which are also those of their Services."""
        return [f"{self.name}-{ordinal}" for ordinal in range(self.args["members"])]

    @property
    def selector(self) -> dict[str, str]:
        """The labels that all members have."""
        return pod_labels.selector("etcd", self.name, "member")

    def hosts(self, namespace: pulumi.Input[str]) -> list[pulumi.Input[str]]:
        """Every DNS name of a member."""
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

        :param snapshot: the server that they download the snapshot from
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
            "init_containers": [
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
            # Liveness needs no quorum, readiness does. Replaying a long log delays the start.
            "startup": {"path": "/livez", "port": "metrics", "failure_threshold": 300},
            "readiness": {"path": "/readyz", "port": "metrics", "period_seconds": 3},
            "liveness": {"path": "/livez", "port": "metrics"},
            # Clients fail over to the other members, so no drain time is needed.
            "drain_seconds": 0,
            "termination_grace_period_seconds": 20,
        }

    def _cluster_json(
        self, created: pulumi.Input[str], snapshot: Reach | None
    ) -> pulumi.Output[str]:
        restore = self.args.get("restore")
        host = snapshot and snapshot.endpoint.apply(lambda known: known.partition(":")[0])
        document = {
            "members": self.pods,
            "token": self.name,
            "created": created,
            "found_minutes": _FOUND_MINUTES,
            "restore": restore and {"host": host, "file": restore["file"]},
        }
        return pulumi.Output.json_dumps(document, indent=1)

    def restore_server(self, restore: RestoreArgs, keys: EtcdKeys) -> ApplicationArgs:
        """The server that members download the snapshot from."""
        return {
            "image": self.args["tools_image"],
            "application": "etcd-restore",
            "component": "snapshots",
            "command": ["python3", "-m", "member", "serve"],
            "secret_files": keys.peer,
            "ports": [{"name": "snapshots", "port": SNAPSHOT_PORT}],
            "volumes": [
                {
                    "name": "snapshots",
                    "persistent_volume_claim": {"claim_name": restore["claim"], "read_only": True},
                }
            ],
            "volume_mounts": [{"name": "snapshots", "mount_path": _SNAPSHOTS, "read_only": True}],
            "termination_grace_period_seconds": 5,
            "hosting": narrowed(self.args["hosting"], ApplicationHosting, without=_OF_MEMBERS),
        }

    def access(self, members: Reach, passwords: EtcdPasswords) -> TaskArgs:
        """The Job that enables authentication, and reconciles root and the users."""
        users = [
            {
                "name": user.name,
                "prefix": user.prefix,
                "logins": user.password.logins(user.name),
                "passwords_file": f"{USERS}/{user.name}",
            }
            for user in passwords.users.values()
        ]
        task = self._tools("access", members, passwords, _ACCESS, {"users": users}, 240)
        task["secret_files"] = {**task["secret_files"], **passwords.user_files()}
        if "restore" in self.args:
            # A restored cluster has the users of its snapshot, so the Job runs again.
            task["hosting"] = with_pod_annotations(
                task["hosting"], {"dds/restored": self.args["restore"]["file"]}
            )
        return {**task}

    def defragment(self, members: Reach, passwords: EtcdPasswords) -> ScheduledTaskArgs:
        """The CronJob that defragments."""
        defragmentation = self.args["defragmentation"]
        plan = {
            "free_fraction": defragmentation["free_percent"] / 100,
            "least_bytes": defragmentation["min_size_mib"] * MIB,
        }
        return {
            **self._tools("defragment", members, passwords, _MAINTENANCE, plan, 1800),
            "schedule": defragmentation["schedule"],
        }

    def snapshot(
        self, snapshots: SnapshotsArgs, members: Reach, passwords: EtcdPasswords
    ) -> ScheduledTaskArgs:
        """The CronJob that takes snapshots."""
        plan = {"name": self.name, "keep": snapshots["keep"]}
        return {
            **self._tools("snapshot", members, passwords, _MAINTENANCE, plan, 900),
            "schedule": snapshots["schedule"],
            "volumes": [
                {"name": "snapshots", "persistent_volume_claim": {"claim_name": snapshots["claim"]}}
            ],
            "volume_mounts": [{"name": "snapshots", "mount_path": _SNAPSHOTS}],
        }

    def _tools(
        self,
        verb: str,
        members: Reach,
        passwords: EtcdPasswords,
        file: str,
        plan: Mapping[str, Any],
        timeout: int,
    ) -> JobArgs:
        """A pod of the project's program that connects to the members as root.

        :param file: path of the plan, with the members' addresses
        """
        told = {"endpoints": member_urls(members), **plan}
        return {
            "image": self.args["tools_image"],
            "application": "etcd-tools",
            "component": verb,
            "command": ["python3", "-m", "member", verb],
            "files": {
                f"{CLIENT}/ca.crt": cast(pulumi.Output[str], members.authority),
                file: pulumi.Output.json_dumps(told, indent=1),
            },
            "secret_files": passwords.root_file(),
            "reaches": [members],
            "timeout_seconds": timeout,
            "hosting": narrowed(self.args["hosting"], PodHosting, without=_OF_MEMBERS),
        }


def member_urls(members: Reach) -> pulumi.Output[list[str]]:
    """The URL of each member."""
    return pulumi.Output.all(*members.endpoints).apply(
        lambda known: [f"https://{endpoint}" for endpoint in known]
    )
