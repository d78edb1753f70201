"""Composition ``ambassadors``: a sharded Redis, and an application that connects to localhost only.

The application is a small counter service; its ambassador routes each key to its shard. A smoke
test, with the same ambassador, checks from inside the cluster that keys are on the planned shards.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import pulumi

from dds_patterns import (
    Application,
    ApplicationArgs,
    ShardedRedis,
    ShardedRedisArgs,
    SmokeTest,
    TwemproxyAmbassador,
    TwemproxyAmbassadorArgs,
)
from dds_patterns.sharding import MOST_SHARDS, moved_fraction, movement
from stacks.settings import Settings
from stacks.target import target

_CHECK = pathlib.Path(__file__).parent / "scripts" / "sharded_redis_check.py"
_CHECKED_KEYS = 1000
_PREFIX = "smoke-test:"
_PASSWORD_FILE = "/etc/redis-client/password"  # noqa: S105 (a path)


def deploy(settings: Settings) -> None:
    """Deploy the store, the example and the check; export outputs for the user."""
    here = target(settings, ["redis", "twemproxy", "toolbox"])
    images = here.images
    store_args: ShardedRedisArgs = {
        "image": images.reference("redis"),
        "shards": settings.shards,
        "role": settings.role,
        "hosting": here.hosting,
    }
    if settings.persistence is not None:
        store_args["persistence"] = settings.persistence
    store = ShardedRedis("sharded-redis", store_args, here.opts)
    _announce_change(settings.shards)

    proxy_args: TwemproxyAmbassadorArgs = {
        "image": images.reference("twemproxy"),
        "store": store.reach,
        "policy": settings.policy,
        "hosting": here.hosting,
    }
    if settings.policy != "seed":
        proxy_args["role"] = settings.role
    ambassador = TwemproxyAmbassador("twemproxy", proxy_args, here.opts)

    secret_files = {_PASSWORD_FILE: store.password}
    environment = {"PASSWORD_FILE": _PASSWORD_FILE}
    example_args: ApplicationArgs = {
        "image": images.reference("toolbox"),
        "command": ["python3", "/opt/examples/counter.py"],
        "env": {"REDIS": ambassador.endpoint, **environment},
        "secret_files": secret_files,
        "ports": [{"name": "http", "port": 8080}],
        # Every pod of the namespace may connect.
        "clients": [{}],
        "replicas": 2,
        "readiness": {"path": "/readyz"},
        "liveness": {"path": "/livez"},
        "companions": [ambassador.companion],
        "hosting": here.hosting,
    }
    example = Application("example", example_args, here.opts)
    SmokeTest(
        "sharded-redis-check",
        {
            "image": images.reference("toolbox"),
            "script": _CHECK.read_text(),
            "env": {"PLAN": _plan(store, ambassador), **environment},
            "secret_files": secret_files,
            "companions": [ambassador.companion],
            "covers": [store.application.stateful_set.spec],
            "hosting": here.hosting,
        },
        here.opts,
    )
    _export(settings, store, example)


def _plan(store: ShardedRedis, ambassador: TwemproxyAmbassador) -> pulumi.Output[str]:
    """The plan for the check: the shard of each of its keys."""

    def text(known: Sequence[Any]) -> str:
        ring, endpoint, statistics, *addresses = known
        return json.dumps(
            {
                "ambassador": endpoint,
                "statistics": statistics,
                "prefix": _PREFIX,
                "shards": [
                    {"name": name, "address": address, "entry": entry}
                    for name, address, entry in zip(
                        store.plan.names, addresses, ring.names, strict=True
                    )
                ],
                "owners": [ring.index(f"{_PREFIX}{number}") for number in range(_CHECKED_KEYS)],
            }
        )

    return pulumi.Output.all(
        ambassador.ring,
        ambassador.endpoint,
        ambassador.statistics.endpoint,
        *store.reach.endpoints,
    ).apply(text)


def _announce_change(shards: int) -> None:
    """Warn how many keys a changed number of shards remaps."""
    own = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    # The outputs of the last update; none before the first.
    previous = pulumi.StackReference("previous", stack_name=own).get_output("shards")

    def announce(deployed: object) -> None:
        if isinstance(deployed, int | float) and int(deployed) != shards:
            pulumi.log.warn(movement(int(deployed), shards))

    previous.apply(announce)


def _export(settings: Settings, store: ShardedRedis, example: Application) -> None:
    namespace = settings.composition
    pulumi.export("shards", settings.shards)
    pulumi.export("role", settings.role)
    pulumi.export("policy", settings.policy)
    pulumi.export("endpoint", example.endpoint)
    pulumi.export(
        "predicted_shares",
        {
            f"sharded-redis-{ordinal}": round(share, 4)
            for ordinal, share in enumerate(store.plan.shares)
        },
    )
    pulumi.export(
        "moved_fraction",
        {
            f"{settings.shards} to {other}": round(moved_fraction(settings.shards, other), 4)
            for other in (settings.shards - 1, settings.shards + 1)
            if 1 <= other <= MOST_SHARDS
        },
    )
    inside = f"kubectl -n {namespace} exec deploy/{{}} -c example --"
    exec_ = example.deployment.metadata["name"].apply(inside.format)
    pulumi.export(
        "try",
        {
            "count a hit": pulumi.Output.concat(
                exec_,
                " python3 -c 'import urllib.request as r; "
                'print(r.urlopen("http://127.0.0.1:8080/hits/me").read().decode())\'',
            ),
            "where it went": f"kubectl -n {namespace} get pods,services -o wide",
            "statistics of the ambassador": pulumi.Output.concat(
                exec_,
                " python3 -c 'import socket; "
                's = socket.create_connection(("127.0.0.1", 22222)); '
                'print(b"".join(iter(lambda: s.recv(65536), b"")).decode())\'',
            ),
            "kill a shard": f"kubectl -n {namespace} delete pod sharded-redis-0",
        },
    )
    pulumi.export("password", store.password)
