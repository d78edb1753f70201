"""Sidecars, ambassadors and adapters."""

from typing import Any

from dds_patterns import (
    RequestSplitter,
    ServiceBroker,
    ShardRouter,
    TlsSidecar,
    Topz,
    TwemproxyAmbassador,
)
from dds_patterns.values.reach import Credentials, Reach
from dds_patterns.values.topology import Topology
from tests.unit.support.examples.example import (
    CERTIFICATE,
    IMAGE,
    Example,
    companion,
    hosting,
    reach,
)

KEY = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"
METRICS_CLIENTS = [{"pods": {"role": "scraper"}, "namespaces": {"team": "blue"}}]
SHARDS = Reach(
    name="cache",
    endpoints=("cache-0.here.svc:6379", "cache-1.here.svc:6379"),
    pods={"app": "cache"},
    namespace="here",
    app_protocol="redis",
    credentials=Credentials("another-swordfish"),
    topology=Topology(("shard-0", "shard-1")),
    isolated=True,
)


def _splitter() -> dict[str, Any]:
    return {
        "image": IMAGE,
        "metrics_image": IMAGE,
        "control": reach("web", app_protocol="http"),
        "experiment": reach("beta", 8081),
        "percent": 12.5,
        "sticky": {"by": "header", "name": "X-Account", "without": "random"},
        "salt": "new shop",
        "force_header": "X-Choice",
        "policy": "default",
        "listen_port": 8090,
        "status_port": 8091,
        "metrics_port": 9115,
        "line_port": 5141,
        "metrics_clients": METRICS_CLIENTS,
        "connect_timeout_ms": 500,
        "timeout_seconds": 10,
        "header_kib": 16,
        "hosting": hosting(RequestSplitter),
    }


def _broker() -> dict[str, Any]:
    return {
        "image": IMAGE,
        "backend": Reach.outside(
            "db.example.com:6380", cidrs=["203.0.113.7/32"], authority=CERTIFICATE
        ),
        "tls": {"server_name": "db.example.com"},
        "listen_port": 6380,
        "check": "redis",
        "connect_timeout_ms": 500,
        "retries": 2,
        "idle_timeout_seconds": 60,
        "breaker": {"failures": 2, "probe_ms": 500, "probe_timeout_ms": 400, "recoveries": 3},
        "max_connections": 100,
        "status_port": 8406,
        "metrics_clients": METRICS_CLIENTS,
        "hosting": hosting(ServiceBroker),
    }


def _tls() -> dict[str, Any]:
    return {
        "image": IMAGE,
        "application_port": 8080,
        "port": 9443,
        "redirect_port": 9080,
        "public_port": 443,
        "status_port": 9444,
        "readiness_path": "/readyz?deep=1",
        "minimum_version": "1.2",
        "ciphers": ["ECDHE-RSA-AES128-GCM-SHA256"],
        "client_certificates": "required",
        "trusted_proxies": ["10.0.0.0/8"],
        "hsts_seconds": 3600,
        "timeout_seconds": 5,
        "header_kib": 16,
        "workers": 2,
        "hosting": hosting(TlsSidecar),
    }


def _proxy() -> dict[str, Any]:
    return {
        "store": SHARDS,
        "image": IMAGE,
        "policy": "default",
        "timeout_ms": 300,
        "server_connections": 2,
        "listen_port": 6380,
        "stats_port": 22223,
        "stats_interval_ms": 500,
        "mbuf_bytes": 4096,
        "verbosity": 5,
        "hosting": hosting(TwemproxyAmbassador),
    }


EXAMPLES: dict[str, Example] = {
    "Topz": Example(
        Topz,
        "dds:index:Topz",
        {"image": IMAGE},
        lambda: {
            "image": IMAGE,
            "address": "0.0.0.0",
            "port": 8080,
            "clients": [{"pods": {"role": "client"}}],
            "hosting": hosting(Topz),
        },
    ),
    "RequestSplitter": Example(
        RequestSplitter,
        "dds:index:RequestSplitter",
        {
            "image": IMAGE,
            "metrics_image": IMAGE,
            "control": reach("web"),
            "experiment": reach("beta"),
        },
        _splitter,
    ),
    "ServiceBroker": Example(
        ServiceBroker,
        "dds:index:ServiceBroker",
        {"image": IMAGE, "backend": reach("db", 6379), "listen_port": 6379},
        _broker,
    ),
    "TlsSidecar": Example(
        TlsSidecar,
        "dds:index:TlsSidecar",
        {"image": IMAGE, "application_port": 8080, "certificate": CERTIFICATE, "key": KEY},
        lambda: {**_tls(), "certificate": CERTIFICATE, "key": KEY, "client_authority": CERTIFICATE},
    ),
    "TlsSidecar of a Secret": Example(
        TlsSidecar,
        "dds:index:TlsSidecar",
        {"image": IMAGE, "application_port": 8080, "secret_name": "web.example"},
        lambda: {**_tls(), "secret_name": "web.example"},
    ),
    "TwemproxyAmbassador": Example(
        TwemproxyAmbassador,
        "dds:index:TwemproxyAmbassador",
        {"store": SHARDS, "image": IMAGE},
        lambda: {
            **_proxy(),
            "role": "cache",
            "server_failure_limit": 2,
            "server_retry_timeout_ms": 2000,
            "client_retries": 4,
        },
    ),
    "TwemproxyAmbassador of a store": Example(
        TwemproxyAmbassador,
        "dds:index:TwemproxyAmbassador",
        {"store": SHARDS, "image": IMAGE},
        lambda: {**_proxy(), "role": "store"},
    ),
    "ShardRouter": Example(
        ShardRouter,
        "dds:index:ShardRouter",
        {"store": SHARDS, "image": IMAGE},
        lambda: {
            **_proxy(),
            "role": "cache",
            "server_failure_limit": 2,
            "server_retry_timeout_ms": 2000,
            "client_retries": 4,
            "replicas": 3,
            "companions": [companion("exporter", 9151)],
            "clients": [{"pods": {"role": "tool"}}],
            "hosting": hosting(ShardRouter),
        },
    ),
}
