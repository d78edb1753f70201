"""What every adapter with metrics has: a label, and how Prometheus finds and reaches its pods."""

import pulumi
from pulumi_kubernetes.core.v1 import Service
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.arguments import InputError
from components.values.metrics import ScrapeJob
from components.values.redis_user import RedisUser
from components.workloads.service_reach import service_reach

LABEL_PREFIX = "dds/metrics-of-"
RESERVE = 13
"""Characters that the label adds to an adapter's name."""


def labels(name: str) -> dict[str, str]:
    """The labels of pods that have this adapter."""
    return {f"{LABEL_PREFIX}{name}": "true"}


def check_user(where: str, name: str, rules: tuple[str, ...]) -> None:
    """Refuse an adapter's name by which a store could not know it, before anything is registered."""
    try:
        RedisUser(name, rules, pulumi.Output.from_input(""))
    except InputError as error:
        raise InputError(where, "name", name, error.expected) from None


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
    return ScrapeJob(
        name, service_reach(name, [service], port, pods=labels(name), app_protocol="http")
    )
