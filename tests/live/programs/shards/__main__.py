"""Shards with two replicas each, a client of all of them, and one of a single shard."""

import pulumi

from dds_patterns import Application, Reach, ShardSet
from tests.live.programs.common import in_namespace
from tests.live.support.kube import InPod

config = pulumi.Config()
images = config.require_object("images")
options = in_namespace(config.require("namespace"))

leaves = ShardSet(
    "leaves",
    {
        "image": images["toolbox"],
        "command": ["python3", "-m", "tests.live.in_pod.leaf"],
        "env": {
            "PYTHONPATH": InPod.FOLDER,
            "PYTHONUNBUFFERED": "1",
            "WORD": config.get("word") or "first",
        },
        "files": InPod.files(),
        "ports": [{"name": "http", "port": 8080, "app_protocol": "http"}],
        "shards": 3,
        "replicas": 2,
        "shard_variable": "SHARD",
        "hosting": {"spread": {"nodes": config.require("spread")}},
    },
    options,
)


def client(name: str, reach: Reach) -> None:
    """A pod in which tests run their client."""
    Application(
        name,
        {
            "image": images["toolbox"],
            "command": ["sleep", "infinity"],
            "files": InPod.files(),
            "reaches": [reach],
            "termination_grace_period_seconds": 1,
        },
        options,
    )


client("client", leaves.reach)
client("single", leaves.shards[1])
pulumi.export("at", leaves.reach.endpoints)
