"""Stores and a page in one namespace, what reaches them in another, and what must not."""

import dataclasses

import pulumi

from dds_patterns import (
    Application,
    ApplicationArgs,
    Hosting,
    Prometheus,
    RedisExporter,
    Rule,
    ShardedRedis,
    TwemproxyAmbassador,
)
from stacks.parts import page
from tests.live.programs.common import in_namespace

config = pulumi.Config()
images = config.require_object("images")
data, shop = config.require("data"), config.require("shop")
generation = config.require_int("generation")
options = in_namespace(data)
in_shop: Hosting = {"namespace": shop}

store = ShardedRedis(
    "store", {"image": images["redis"], "shards": 2, "slow_command_ms": generation}, options
)
near = RedisExporter("near", {"image": images["redis-exporter"], "auth": False}, options)
# Everybody may do everything in it, so that exporters need no user of their own.
plain = Application(
    "plain",
    {
        "image": images["redis"],
        "command": ["redis-server", "--save", "", "--protected-mode", "no"],
        "ports": [{"name": "redis", "port": 6379, "app_protocol": "redis"}],
        "companions": [near.companion],
    },
    options,
)
web = page("web", images["nginx"], options)

proxy = TwemproxyAmbassador(
    "proxy", {"image": images["twemproxy"], "store": store.reach, "hosting": in_shop}, options
)
far = RedisExporter(
    "far",
    {
        "image": images["redis-exporter"],
        "server": plain.reach,
        "auth": False,
        "hosting": in_shop,
    },
    options,
)


def sleeper(name: str, **more: object) -> None:
    """A pod in which the tests run their commands."""
    args: ApplicationArgs = {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "hosting": in_shop,
        "termination_grace_period_seconds": 1,
    }
    args.update(more)  # type: ignore[typeddict-item]
    Application(name, args, options)


sleeper(
    "client",
    env={"GENERATION": str(generation)},
    companions=[proxy.companion, far.companion],
    reaches=[web.reach] if config.require_bool("connected") else [],
)
# It is let out, but nothing lets it in.
sleeper("stranger", reaches=[dataclasses.replace(web.reach, isolated=False)])
sleeper("reader", rules=[Rule(resources=("configmaps",), verbs=("list",))])
Prometheus(
    "prometheus",
    {
        "image": images["prometheus"],
        "jobs": [near.job, far.job],
        "scrape_interval_seconds": 1,
        "hosting": in_shop,
    },
    options,
)
pulumi.export("web", web.reach.endpoint)
pulumi.export("password", store.password)
