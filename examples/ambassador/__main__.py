"""A counter that connects to localhost only: its ambassador finds the shard of each key."""

import pulumi
from pulumi_kubernetes.core.v1 import Namespace

from dds_patterns import Application, Hosting, ShardedRedis, TwemproxyAmbassador

config = pulumi.Config()
namespace = Namespace("ambassador-example").metadata["name"]
hosting: Hosting = {
    "namespace": namespace,
    "images": {"redis": config.require("redis"), "twemproxy": config.require("twemproxy")},
}

store = ShardedRedis("store", {"shards": 2, "role": "cache", "hosting": hosting})
ambassador = TwemproxyAmbassador("ambassador", {"store": store.reach, "hosting": hosting})
counter = Application(
    "counter",
    {
        "image": config.require("toolbox"),
        "command": ["python3", "/opt/examples/counter.py"],
        "env": {"REDIS": ambassador.endpoint, "PASSWORD_FILE": "/etc/redis-client/password"},
        "secret_files": {"/etc/redis-client/password": store.password},
        "ports": [{"name": "http", "port": 8080}],
        "clients": [{}],
        "replicas": 2,
        "readiness": {"path": "/readyz"},
        "companions": [ambassador.companion],
        "hosting": hosting,
    },
)
pulumi.export("namespace", namespace)
pulumi.export("endpoint", counter.endpoint)
