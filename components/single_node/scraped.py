"""What every adapter with metrics has: who may scrape it, and how Prometheus finds its pods."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import pulumi
from pulumi_kubernetes.core.v1 import Service
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.arguments import Default, InputError
from components.arguments.constraints import Constraint
from components.arguments.names import Selector
from components.values.edges import Edge
from components.values.metrics import SCRAPER_LABEL, ScrapeJob
from components.values.redis_user import RedisUser

LABEL_PREFIX = "dds/metrics-of-"
RESERVE = 13
"""Characters that the label adds to an adapter's name."""

DEFAULT_SCRAPERS: tuple[Mapping[str, str], ...] = (dict([SCRAPER_LABEL]),)
"""Pods that are let in unless others are named."""
Scrapers = Annotated[
    Sequence[Selector],
    Constraint("the labels of one scraper at least; {} is every pod", bool, ((),)),
    Default(DEFAULT_SCRAPERS),
]
"""Labels of pods that scrape."""


def labels(name: str) -> dict[str, str]:
    """The labels of pods that have this adapter."""
    return {f"{LABEL_PREFIX}{name}": "true"}


def check_user(where: str, name: str, rules: tuple[str, ...]) -> None:
    """Refuse an adapter's name by which a store could not know it, before anything is registered."""
    try:
        RedisUser(name, rules, pulumi.Output.from_input(""))
    except InputError as error:
        raise InputError(where, "name", name, error.expected) from None


def ingress(
    port: int, scrapers: Sequence[Mapping[str, str]], namespace: Mapping[str, str] | None = None
) -> tuple[Edge, ...]:
    """The connections that the scrapers open."""
    return tuple(Edge(ports=(port,), pods=scraper, namespace=namespace) for scraper in scrapers)


def job(
    name: str, port: int, metadata: ObjectMetaArgsDict, opts: pulumi.ResourceOptions
) -> ScrapeJob:
    """Register the headless Service whose name resolves to every pod with the adapter."""
    service = Service(
        name,
        metadata=metadata,
        spec={
            "cluster_ip": "None",
            "selector": labels(name),
            "ports": [{"name": "metrics", "port": port, "target_port": port}],
            # A pod that is not ready is the one whose metrics are wanted most.
            "publish_not_ready_addresses": True,
        },
        opts=opts,
    )
    host = pulumi.Output.concat(
        service.metadata["name"], ".", service.metadata["namespace"], ".svc"
    )
    return ScrapeJob(name, host, port, labels(name))
