"""Composition ``cluster``: the project's own cluster in Docker, with its registry."""

import pulumi

from dds_patterns import Cluster, ClusterArgs
from stacks.settings import Settings


def deploy(settings: Settings) -> None:
    """Make the cluster and export what other compositions need to use it."""
    args: ClusterArgs = {
        "instance": settings.instance,
        "agents": settings.agents,
        "api_port": settings.api_port,
        "registry_port": settings.registry_port,
    }
    if settings.node_image:
        args["node_image"] = settings.node_image
    if settings.registry_image:
        args["registry_image"] = settings.registry_image
    cluster = Cluster("cluster", args)
    pulumi.export("kubeconfig", cluster.kubeconfig)
    pulumi.export("registry", cluster.registry)
    pulumi.export("nodes", cluster.nodes)
    pulumi.export("instance", settings.instance)
