"""The platform: clusters, images, certificates, Prometheus."""

from pathlib import Path

import pulumi

from dds_patterns import (
    Authority,
    Certificate,
    Cluster,
    ExistingSecret,
    ImageCatalog,
    Prometheus,
)
from dds_patterns.values.metrics import Alert, ScrapeJob
from dds_patterns.values.reach import Reach
from tests.unit.support.examples.example import IMAGE, Example, hosting

_IMAGES = str(Path(__file__).parents[4] / "images")


class Issuer(Authority, name="Authority"):
    """An authority that is already registered, in any program."""

    def __init__(self) -> None:
        """Register nothing."""

    @property
    def certificate(self) -> pulumi.Output[str]:  # type: ignore[override]
        return pulumi.Output.from_input("certificate")

    @property
    def key(self) -> pulumi.Output[str]:  # type: ignore[override]
        return pulumi.Output.secret("key")


def _job(name: str) -> ScrapeJob:
    pods = {"app": name}
    return ScrapeJob(name, Reach(name, (f"{name}.there.svc:9121",), pods=pods, isolated=True))


EXAMPLES: dict[str, Example] = {
    "ExistingSecret": Example(
        ExistingSecret,
        "dds:index:ExistingSecret",
        {"secret": "database", "namespace": "shop"},
        lambda: {"secret": "database", "namespace": pulumi.Output.from_input("shop")},
    ),
    "Authority": Example(
        Authority,
        "pulumi-python:dynamic:Authority",
        {},
        lambda: {"common_name": "Shop CA", "validity_days": 30},
    ),
    "Certificate": Example(
        Certificate,
        "pulumi-python:dynamic:Certificate",
        {"authority": Issuer(), "dns_names": ["db.shop.svc"]},
        lambda: {
            "authority": Issuer(),
            "dns_names": ["db.shop.svc", "*.shop.svc"],
            "ip_addresses": ["127.0.0.1", "::1"],
            "common_name": "db",
            "usages": ["client", "server"],
            "validity_days": 30,
            "generation": 2,
        },
    ),
    "Cluster": Example(
        Cluster,
        "dds:index:Cluster",
        {"instance": "dds-abc", "api_port": 20001, "registry_port": 20000},
        lambda: {
            "instance": "dds-abc",
            "api_port": 20001,
            "registry_port": 20000,
            "agents": 2,
            "node_image": "dds/node:1",
            "registry_image": "dds/registry:1",
        },
    ),
    "ImageCatalog": Example(
        ImageCatalog,
        "dds:index:ImageCatalog",
        {"registry": "localhost:20000", "names": ["redis"], "folder": _IMAGES},
        lambda: {
            "registry": "localhost:20000",
            "names": ["redis", "nats"],
            "folder": _IMAGES,
            "overrides": {"nats": "nats:2.15.2"},
            "base": "debian:bookworm-slim",
        },
    ),
    "Prometheus": Example(
        Prometheus,
        "dds:index:Prometheus",
        {"image": IMAGE, "jobs": [_job("a")]},
        lambda: {
            "image": IMAGE,
            "jobs": [_job("a"), _job("b")],
            "alerts": [Alert("RedisDown", "redis_up == 0", "Redis is down.")],
            "scrape_interval_seconds": 3,
            "retention_hours": 48,
            "clients": [{"pods": {"role": "client"}}],
            "hosting": hosting(
                Prometheus,
                resources={"requests": {"cpu": "100m"}, "limits": {"memory": "512Mi"}},
            ),
        },
    ),
}
