"""Adapters, and what keeps a configuration like its source."""

from typing import Any

import pulumi

from components import ConfigSync, LogAdapter, MetricsExporter, MySqlHealth, RedisExporter
from components.single_node.log_adapter import LOG_FOLDER
from components.values.edges import Edge
from tests.unit.support.examples.example import IMAGE, Example

AUTHORITY = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
EGRESS = [Edge(ports=(443,), cidr="203.0.113.0/24")]


def _common() -> dict[str, Any]:
    return {
        "image": IMAGE,
        "scrapers": [{"app": "prometheus"}, {}],
        "resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "64Mi"}},
        "namespace": "here",
    }


def _exporter() -> dict[str, Any]:
    return {
        **_common(),
        "port": 9998,
        "deadline_seconds": 1.5,
        "scraper_namespace": {"team": "watch"},
    }


def _sync() -> dict[str, Any]:
    return {
        **_common(),
        "interval_seconds": 5,
        "stale_after_seconds": 20,
        "unready_when_stale": True,
        "check": ["nginx", "-t", "-c", "{folder}/nginx.conf"],
        "may_be_empty": True,
        "size_mb": 1,
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
        {"image": IMAGE, "http": {"url": "http://config.example/"}, "egress": EGRESS},
        lambda: {
            **_sync(),
            "http": {
                "url": "https://config.example:8443/web.json?of=web",
                "file": "größe (1).conf",
                "authorization": pulumi.Output.secret("Bearer swordfish"),
                "authority": AUTHORITY,
            },
            "egress": EGRESS,
            "mode": "interval",
            "on_change": {"url": "http://localhost:8080/reload?now=1"},
        },
    ),
    "ConfigSync git": Example(
        ConfigSync,
        "dds:index:ConfigSync",
        {"image": IMAGE, "git": {"url": "http://git.example/web.git"}, "egress": EGRESS},
        lambda: {
            **_sync(),
            "git": {
                "url": "https://git.example/web.git",
                "branch": "release/1.0",
                "folder": "etc/my app",
                "authority": AUTHORITY,
            },
            "egress": EGRESS,
            "mode": "interval",
        },
    ),
    "LogAdapter": Example(
        LogAdapter,
        "dds:index:LogAdapter",
        {"image": IMAGE, "sources": [{"name": "redis", "kind": "redis_slowlog"}]},
        lambda: {
            **_common(),
            "sources": [
                {
                    "name": "redis",
                    "kind": "redis_slowlog",
                    "address": "redis.here.svc:6380",
                    "auth": True,
                },
                {
                    "name": "storm",
                    "kind": "storm",
                    "url": "http://storm.example:8080/",
                    "window": 10800,
                    "sys": 1,
                    "interval_seconds": 30,
                },
                {"name": "web", "kind": "nginx_access", "path": f"{LOG_FOLDER}/access.log"},
                {"name": "db", "kind": "mysql_slow", "path": f"{LOG_FOLDER}/slow.log"},
            ],
            "poll_seconds": 0.5,
            "port": 9997,
            "log_size": "64Mi",
            "egress": [Edge(ports=(6380,), pods={"app": "redis"})],
        },
    ),
    "MetricsExporter": Example(
        MetricsExporter,
        "dds:index:MetricsExporter",
        {"image": IMAGE, "kind": "memcached"},
        lambda: {**_exporter(), "kind": "nginx", "target": "127.0.0.1:8081/status?a=b"},
    ),
    "RedisExporter": Example(
        RedisExporter,
        "dds:index:RedisExporter",
        {"image": IMAGE},
        lambda: {**_exporter(), "target": "[::1]:6380", "auth": False},
    ),
    "MySqlHealth": Example(
        MySqlHealth,
        "dds:index:MySqlHealth",
        {"image": IMAGE},
        lambda: {
            **_common(),
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
            "host": "db.example",
            "database_port": 3307,
            "database": "shop",
            "user": "watch",
            "password": pulumi.Output.secret("swordfish-long-enough"),
            "period_seconds": 4,
            "interval_seconds": 1.5,
            "deadline_seconds": 0.5,
            "port": 9996,
        },
    ),
}
