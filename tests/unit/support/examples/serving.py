"""Stores, buses, elections and the components that depend on them."""

from typing import Any

import pulumi

from dds_patterns import Election, EtcdCluster, EventBus, ShardedRedis
from dds_patterns.values.reach import Credentials, Reach
from dds_patterns.values.redis_user import RedisUser
from tests.unit.support.examples.example import IMAGE, Example, companion, hosting, issuer

_BUS = {"image": IMAGE, "tools_image": "registry.example/events:1"}
# There is no other one to which clients could go meanwhile.
_ONE_SERVER = frozenset({"nats: no drain"})


def _store() -> dict[str, Any]:
    return {
        "image": IMAGE,
        "shards": 2,
        "role": "store",
        "persistence": True,
        "appendfsync": "everysec",
        "memory_mib": 128,
        "auth": True,
        "password": "swordfish-long-enough",
        "former_password": pulumi.Output.secret("swordfish-of-last-year"),
        "admin_password": pulumi.Output.secret("swordfish-of-the-admin"),
        "former_admin_password": "swordfish-of-the-former-admin",
        "rotation": {"generation": 1, "keep_former": True},
        "hash": "md5",
        "hash_tag": "{}",
        "companions": [companion("exporter", 9121)],
        "users": [RedisUser("exporter", ("+info",), pulumi.Output.secret("swordfish"))],
        "slow_command_ms": 5,
        "clients": [{"pods": {"role": "tool"}}],
        "hosting": hosting(
            ShardedRedis, resources={"requests": {"cpu": "100m"}, "limits": {"memory": "512Mi"}}
        ),
    }


def _cluster() -> dict[str, Any]:
    return {
        "image": IMAGE,
        "tools_image": "registry.example/tools:1",
        "members": 5,
        "quota_mib": 64,
        "heartbeat_ms": 200,
        "election_ms": 3000,
        "compaction_minutes": 5,
        "defragmentation": {"schedule": "1 2 * * *", "free_percent": 20, "min_size_mib": 1},
        "snapshots": {"claim": "snapshots", "schedule": "3 * * * *", "keep": 3},
        "restore": {"claim": "snapshots", "file": "etcd-20260101T000000Z.db"},
        "users": {
            "shop": {"prefix": "/shop/"},
            "till": {
                "prefix": "/till/",
                "password": pulumi.Output.secret("swordfish-of-the-till"),
            },
        },
        "rotation": {"generation": 3, "keep_former": False},
        "root_password": pulumi.Output.secret("swordfish-of-the-root"),
        "former_root_password": pulumi.Output.secret("swordfish-of-the-former-root"),
        "authority": issuer(),
        "clients": [{"cidr": "203.0.113.0/24"}],
        "metrics_clients": [{"namespaces": {"team": "blue"}}],
        "hosting": hosting(
            EtcdCluster, resources={"requests": {"cpu": "200m"}, "limits": {"memory": "1Gi"}}
        ),
    }


def _election() -> dict[str, Any]:
    return {
        "image": IMAGE,
        "ttl_seconds": 10,
        "renew_seconds": 2.5,
        "margin_seconds": 1.25,
        "worker_seconds": 12.5,
        "port": 5050,
        "metrics_port": 5051,
        "metrics_clients": [{"pods": {"app": "prometheus"}, "namespace": "monitoring"}],
        "hosting": hosting(Election),
    }


def _user() -> Reach:
    return Reach(
        name="etcd",
        endpoints=("etcd-0.data.svc:2379", "etcd-1.data.svc:2379"),
        pods={"app.kubernetes.io/instance": "etcd"},
        namespace="data",
        app_protocol="etcd",
        path="/elections/",
        authority="-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n",
        credentials=Credentials("swordfish-long", "elections"),
        isolated=True,
        depends_on=(pulumi.resource.DependencyResource("urn:pulumi:test::dds::a:b:C::there"),),
    )


EXAMPLES: dict[str, Example] = {
    "ShardedRedis": Example(
        ShardedRedis,
        "dds:index:ShardedRedis",
        {"image": IMAGE},
        _store,
        # No other pod has a shard's keys, so there is nothing to wait for before it stops.
        frozenset({"redis: no drain"}),
    ),
    "ShardedRedis rotated": Example(
        ShardedRedis,
        "dds:index:ShardedRedis",
        {"image": IMAGE},
        lambda: {
            **{key: value for key, value in _store().items() if "password" not in key},
            "rotation": {"generation": 3, "keep_former": False},
        },
        frozenset({"redis: no drain"}),
    ),
    "EtcdCluster": Example(
        EtcdCluster,
        "dds:index:EtcdCluster",
        {"image": IMAGE},
        _cluster,
        # Clients try the other members.
        frozenset({"etcd: no drain"}),
    ),
    "Election etcd": Example(
        Election,
        "dds:index:Election",
        {"image": IMAGE, "backend": "lease"},
        lambda: {
            **_election(),
            "backend": "etcd",
            "store": _user(),
            "on_change": {"signal": "HUP", "process": "web"},
        },
    ),
    "Election lease": Example(
        Election,
        "dds:index:Election",
        {"image": IMAGE, "backend": "lease"},
        lambda: {
            **_election(),
            "backend": "lease",
            "on_change": {"url": "http://localhost:8080/leadership"},
        },
    ),
    "EventBus": Example(
        EventBus,
        "dds:index:EventBus",
        _BUS,
        lambda: {
            **_BUS,
            "events_mib": 32,
            "keep_hours": 2,
            "dead_mib": 8,
            "keep_dead_hours": 48,
            "records_mib": 16,
            "duplicate_seconds": 60,
            "buckets": [{"name": "codes", "ttl_seconds": 300, "size_mib": 4}],
            "password": "swordfish-of-the-clients",
            "admin_password": pulumi.Output.secret("swordfish-of-the-admin"),
            "rotation": {"generation": 1, "keep_former": True},
            "clients": [{"pods": {"role": "client"}}],
            "metrics_clients": [{"namespace": "monitoring"}],
            "hosting": hosting(EventBus, resources={"limits": {"memory": "1Gi"}}),
        },
        _ONE_SERVER,
    ),
    "EventBus rotated": Example(
        EventBus,
        "dds:index:EventBus",
        _BUS,
        lambda: {
            **_BUS,
            "rotation": {"generation": 3, "keep_former": True},
            "hosting": hosting(EventBus, resources={"limits": {"memory": "1Gi"}}),
        },
        _ONE_SERVER,
    ),
}
