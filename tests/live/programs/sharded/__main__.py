"""A sharded store, and a client whose ambassador stands before it."""

from collections.abc import Sequence
from typing import Any

import pulumi

from dds_patterns import (
    Application,
    ShardedRedis,
    ShardedRedisArgs,
    TwemproxyAmbassador,
    TwemproxyAmbassadorArgs,
)
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
    "rotation": {
        "generation": config.get_int("generation") or 1,
        "keep_former": config.get_bool("keep_former") is not False,
    },
}
if role == "store":
    store_args["hosting"] = {"storage": {"delete_with_workload": True}}
store = ShardedRedis("store", store_args, options)
if store.password is None:
    raise RuntimeError("the store has no password")

proxy_args: TwemproxyAmbassadorArgs = {
    "image": images["twemproxy"],
    "store": store.reach,
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
        "termination_grace_period_seconds": 1,
    },
    options,
)


def described(known: Sequence[Any]) -> dict[str, Any]:
    ring, *endpoints = known
    places = [endpoint.rpartition(":") for endpoint in endpoints]
    return {
        "shards": [
            {"name": name, "host": host, "port": int(port)}
            for name, (host, _, port) in zip(ring.names, places, strict=True)
        ],
        "hash": ring.hash_name,
        "login": {"password_file": PASSWORD_FILE},
    }


pulumi.export(
    "topology", pulumi.Output.all(ambassador.ring, *store.reach.endpoints).apply(described)
)
pulumi.export("password", store.password)
