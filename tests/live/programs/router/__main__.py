"""A sharded memcached, a router before it, and a client with an ambassador that reaches both."""

import pulumi

from dds_patterns import Application, ShardRouter, ShardSet, TwemproxyAmbassador
from tests.live.programs.common import in_namespace
from tests.live.support.kube import InPod

config = pulumi.Config()
images = config.require_object("images")
options = in_namespace(config.require("namespace"))

shards = ShardSet(
    "shards",
    {
        "image": images["memcached"],
        "application": "memcached",
        "command": ["memcached", "-m", "32", "-l", "0.0.0.0"],
        "ports": [{"name": "memcached", "port": 11211, "app_protocol": "memcached"}],
        "shards": 3,
    },
    options,
)
# A shard that is away keeps its keys, so that the others' can be told from them.
proxy = {"image": images["twemproxy"], "store": shards.reach, "role": "store"}
router = ShardRouter("router", proxy, options)  # type: ignore[arg-type]
ambassador = TwemproxyAmbassador("proxy", proxy, options)  # type: ignore[arg-type]
Application(
    "client",
    {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "files": InPod.files(),
        "companions": [ambassador.companion],
        "reaches": [router.reach, shards.reach],
        "termination_grace_period_seconds": 1,
    },
    options,
)
pulumi.export("router", router.endpoint)
pulumi.export("ambassador", ambassador.endpoint)
pulumi.export("shards", shards.reach.endpoints)
