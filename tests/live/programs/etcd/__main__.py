"""An etcd cluster with users and their client, and a volume for snapshots.

``users`` are their names, each for the keys below it; ``generation`` is that of all passwords, and
``keep_former`` whether users' former ones are good. The pod ``other`` may connect and knows no user:
no rotation replaces it.
"""

import dataclasses
from typing import cast

import pulumi
from pulumi_kubernetes.core.v1 import PersistentVolumeClaim

from dds_patterns import Application, EtcdCluster, EtcdClusterArgs, Password
from tests.live.programs.common import in_namespace
from tests.live.support.kube import InPod

config = pulumi.Config()
images = config.require_object("images")
options = in_namespace(config.require("namespace"))

# Both outlive the cluster, as whoever wants to restore it does it.
generation = config.get_int("generation") or 1
root = Password("root", {"generation": generation}, options)
snapshots = PersistentVolumeClaim(
    "snapshots",
    metadata={
        "name": "snapshots",
        # A volume of a node is bound when the first pod uses it.
        "annotations": {"pulumi.com/skipAwait": "true"},
    },
    spec={
        "access_modes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "256Mi"}},
    },
    opts=options,
)

if config.get("gone") != "true":
    args: EtcdClusterArgs = {
        "image": images["etcd"],
        "members": 3,
        "quota_mib": 64,
        # Two cores are shared with much else: an election must not come from a busy machine.
        "heartbeat_ms": 200,
        "election_ms": 2000,
        # Another test may have a node cordoned meanwhile.
        "hosting": {"spread": {"nodes": "even"}, "storage": {"delete_with_workload": True}},
        "users": {
            name: {"prefix": f"/{name}/"} for name in config.get_object("users") or ("one", "two")
        },
        "rotation": {
            "generation": generation,
            "keep_former": config.get_bool("keep_former") is not False,
        },
        "root_password": root.value,
        # Taken and defragmented when the tests say so.
        "defragmentation": {"schedule": "0 0 1 1 *", "free_percent": 10, "min_size_mib": 1},
        "snapshots": {"claim": snapshots.metadata["name"], "schedule": "0 0 1 1 *", "keep": 2},
    }
    if generation > 1:
        args["former_root_password"] = root.former
    restore = config.get("restore")
    if restore:
        args["restore"] = {"claim": snapshots.metadata["name"], "file": restore}
    cluster = EtcdCluster("etcd", args, options)
    users = {name: cluster.user(name) for name in args["users"]}
    # A way out alone, also to the ports that are for members only: who is not let in is refused there.
    out = dataclasses.replace(cluster.reach, ports=(2379, 2380, 2381), isolated=False)
    secret_files = {
        "/etc/etcd-users/root": pulumi.Output.concat("root ", cluster.root_password),
        **{
            f"/etc/etcd-users/{name}": pulumi.Output.concat(
                user.credentials.username, " ", user.credentials.password
            )
            for name, user in users.items()
            if user.credentials is not None
        },
    }
    for name, reaches in (
        ("client", [*users.values(), out]),
        ("other", [cluster.reach]),
        ("stranger", [out]),
    ):
        Application(
            name,
            {
                "image": images["etcd"],
                "command": ["sleep", "infinity"],
                "files": {
                    **InPod.files(),
                    "/etc/etcd-client/ca.crt": cast(pulumi.Output[str], cluster.reach.authority),
                },
                "secret_files": secret_files if name == "client" else {},
                "reaches": reaches,
                "termination_grace_period_seconds": 1,
            },
            options,
        )
