"""A sharded store, and a client whose ambassador stands before it."""

import pulumi

from components.serving.sharded_redis import ShardedRedis, ShardedRedisArgs
from components.single_node.twemproxy import TwemproxyAmbassador, TwemproxyAmbassadorArgs
from components.workloads.application import Application
from tests.live.programs.common import in_namespace
from tests.live.support.kube import InPod

PASSWORD_FILE = "/etc/live-secret/password"

config = pulumi.Config()
images = config.require_object("images")
role = config.require("role")
seed = config.get("policy") == "seed"
options = in_namespace(config.require("namespace"))

store_args: ShardedRedisArgs = {
    "image": images["redis"],
    "shards": config.require_int("shards"),
    "role": role,
}
if role == "store":
    store_args["delete_data"] = True
store = ShardedRedis("store", store_args, options)
if store.password is None:
    raise RuntimeError("the store has no password")

proxy_args: TwemproxyAmbassadorArgs = {
    "image": images["twemproxy"],
    "topology": store.topology,
    "password": store.password,
    "after": [store],
}
if seed:
    proxy_args["policy"] = "seed"
else:
    proxy_args["role"] = role
ambassador = TwemproxyAmbassador("proxy", proxy_args, options)

client = Application(
    "client",
    {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "files": InPod.files(),
        "secret_files": {PASSWORD_FILE: store.password},
        "companions": [ambassador.companion],
        "grace_seconds": 1,
    },
    options,
)

pulumi.export(
    "topology",
    {
        "shards": [
            {"name": name, "host": shard.host, "port": shard.port}
            for name, shard in zip(ambassador.ring.names, store.topology.shards, strict=True)
        ],
        "hash": ambassador.ring.hash_name,
        "client_label": list(store.topology.client_label),
        "login": {"password_file": PASSWORD_FILE},
    },
)
pulumi.export("password", store.password)
