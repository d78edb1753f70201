"""Adapters, and the sidecar that keeps a configuration equal to its source."""

from typing import Any

import pulumi

from dds_patterns import ConfigSync, LogAdapter, MetricsExporter, MySqlHealth, RedisExporter
from dds_patterns.values.reach import Reach
from tests.unit.support.examples.example import CERTIFICATE, IMAGE, Example, elsewhere, hosting


def outside(url: str, authority: str | None = None) -> Reach:
    """A server outside the cluster."""
    return Reach.outside(url, cidrs=["203.0.113.0/24"], authority=authority)


def _common(component: type[pulumi.Resource]) -> dict[str, Any]:
    return {
        "image": IMAGE,
        "metrics_clients": [{"namespace": "watch", "pods": {"app": "prometheus"}}, {}],
        "hosting": hosting(component),
    }


def _exporter(component: type[pulumi.Resource]) -> dict[str, Any]:
    return {
        **_common(component),
        "port": 9998,
        "deadline_seconds": 1.5,
    }


def _sync() -> dict[str, Any]:
    return {
        **_common(ConfigSync),
        "interval_seconds": 5,
        "stale_after_seconds": 20,
        "unready_when_stale": True,
        "check": ["nginx", "-t", "-c", "{folder}/nginx.conf"],
        "may_be_empty": True,
        "size_mib": 1,
        "port": 9999,
    }


EXAMPLES: dict[str, Example] = {
    "ConfigSync": Example(
        ConfigSync,
        "dds:index:ConfigSync",
        {"image": IMAGE, "config_maps": {"dds/settings-of": "web"}},
        lambda: {
            **_sync(),
            "config_maps": {"dds/settings-of": "web", "example.com/Part": ""},
            "mode": "watch",
            "on_change": {"signal": "HUP", "process": "web"},
        },
    ),
    "ConfigSync http": Example(
        ConfigSync,
        "dds:index:ConfigSync",
        {"image": IMAGE, "http": {"server": outside("http://config.example/")}},
        lambda: {
            **_sync(),
            "http": {
                "server": outside("https://config.example:8443/web.json?of=web", CERTIFICATE),
                "file": "größe (1).conf",
                "authorization": pulumi.Output.secret("Bearer swordfish"),
            },
            "mode": "interval",
            "on_change": {"url": "http://localhost:8080/reload?now=1"},
        },
    ),
    "ConfigSync git": Example(
        ConfigSync,
        "dds:index:ConfigSync",
        {"image": IMAGE, "git": {"server": outside("http://git.example/web.git")}},
        lambda: {
            **_sync(),
            "git": {
                "server": outside("https://git.example/web.git", CERTIFICATE),
                "branch": "release/1.0",
                "folder": "etc/my app",
            },
            "mode": "interval",
        },
    ),
    "LogAdapter": Example(
        LogAdapter,
        "dds:index:LogAdapter",
        {"image": IMAGE, "sources": [{"name": "redis", "kind": "redis_slowlog"}]},
        lambda: {
            **_common(LogAdapter),
            "sources": [
                {
                    "name": "redis",
                    "kind": "redis_slowlog",
                    "server": elsewhere(6380, app_protocol="redis"),
                    "auth": True,
                },
                {
                    "name": "storm",
                    "kind": "storm",
                    "server": outside("http://storm.example:8080/"),
                    "window": 10800,
                    "sys": 1,
                    "interval_seconds": 30,
                },
                {"name": "web", "kind": "nginx_access", "path": f"{LogAdapter.FOLDER}/access.log"},
                {"name": "db", "kind": "mysql_slow", "path": f"{LogAdapter.FOLDER}/slow.log"},
            ],
            "poll_seconds": 0.5,
            "rotation": {"generation": 3, "keep_former": False},
            "port": 9997,
            "log_size": "64Mi",
        },
    ),
    "MetricsExporter": Example(
        MetricsExporter,
        "dds:index:MetricsExporter",
        {"image": IMAGE, "kind": "memcached"},
        lambda: {
            **_exporter(MetricsExporter),
            "kind": "nginx",
            "server": elsewhere(8081, app_protocol="http", path="/status?a=b"),
        },
    ),
    "RedisExporter": Example(
        RedisExporter,
        "dds:index:RedisExporter",
        {"image": IMAGE},
        lambda: {
            **_exporter(RedisExporter),
            "server": Reach("near", ("[::1]:6380",)),
            "auth": False,
            "rotation": {"generation": 1, "keep_former": True},
        },
    ),
    "RedisExporter rotated": Example(
        RedisExporter,
        "dds:index:RedisExporter",
        {"image": IMAGE},
        lambda: {
            **_exporter(RedisExporter),
            "server": elsewhere(6380, app_protocol="redis"),
            "auth": True,
            "rotation": {"generation": 3, "keep_former": False},
        },
    ),
    "MySqlHealth": Example(
        MySqlHealth,
        "dds:index:MySqlHealth",
        {"image": IMAGE},
        lambda: {
            **_common(MySqlHealth),
            "queries": [
                {"name": "lag", "preset": "replication_lag", "at_most": 5},
                {
                    "name": "orders",
                    "sql": "SELECT count(*) AS n FROM orders",
                    "column": "n",
                    "at_least": 1.5,
                    "at_most": 1_000_000,
                    "at_most_ms": 250,
                    "required": False,
                    "empty": "healthy",
                },
            ],
            "flavour": "mysql",
            "server": elsewhere(3307, app_protocol="mysql"),
            "database": "shop",
            "user": "watch",
            "password": pulumi.Output.secret("swordfish-long-enough"),
            "generation": 1,
            "period_seconds": 4,
            "interval_seconds": 1.5,
            "deadline_seconds": 0.5,
            "port": 9996,
        },
    ),
    "MySqlHealth rotated": Example(
        MySqlHealth,
        "dds:index:MySqlHealth",
        {"image": IMAGE},
        lambda: {**_common(MySqlHealth), "generation": 3},
    ),
}
