"""Leader election of a worker with two replicas, in a program of your own."""

from pathlib import Path

import pulumi
from pulumi_kubernetes.core.v1 import Namespace

from dds_patterns import Application, Election, Hosting

config = pulumi.Config()
namespace = Namespace("election-example").metadata["name"]
hosting: Hosting = {"namespace": namespace, "images": {"elector": config.require("elector")}}

election = Election(
    "elector",
    {
        # A Lease needs no etcd of its own. For backend etcd, give `store` here: cluster.user(...).
        "backend": "lease",
        "ttl_seconds": 5,
        "hosting": hosting,
    },
)
worker = Application(
    "worker",
    {
        "image": config.require("worker"),
        "command": ["python3", "-u", "/opt/worker/worker.py"],
        "files": {"/opt/worker/worker.py": Path(__file__).with_name("worker.py").read_text()},
        "replicas": 2,
        "companions": [election.companion],
        "hosting": hosting,
    },
)
pulumi.export("namespace", namespace)
pulumi.export(
    "try",
    pulumi.Output.format(
        "kubectl -n {0} logs -f -l app.kubernetes.io/instance=worker -c worker --prefix", namespace
    ),
)
