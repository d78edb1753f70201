"""Where a composition goes: which cluster, which namespace, which registry."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.core.v1 import Namespace

from components.arguments.errors import InputError
from components.platform.images import ImageCatalog, ImageCatalogArgs
from components.pods.labels import MANAGED_BY, PART_OF
from components.values import checks
from stacks.settings import Settings

CLUSTER_STACK = "organization/dds/cluster"
"""The stack whose outputs describe the project's own cluster."""


@dataclass(frozen=True)
class Target:
    """A namespace of its own on a cluster, and the way to bring images there."""

    settings: Settings
    provider: kubernetes.Provider
    """Provider for everything on the cluster; give ``opts`` to components."""
    namespace: pulumi.Output[str]
    """Name of the composition's namespace, which enforces the Pod Security Standard."""
    registry: pulumi.Output[str] | None
    """host:port of a registry from which the cluster pulls; None where none is known."""

    @property
    def opts(self) -> pulumi.ResourceOptions:
        """Options that put a component on this cluster."""
        return pulumi.ResourceOptions(providers=[self.provider])

    def images(self, names: Sequence[str]) -> ImageCatalog:
        """The composition's images, from this repository or from the configuration.

        :param names: folders below ``images``
        :raises InputError: a name in ``dds:images`` that the composition does not use; an image
            that must be built where no registry is known
        """
        given = self.settings.images
        for name in given:
            if name not in names:
                raise InputError("Configuration", "dds:images", name, checks.nearest(name, names))
        missing = [name for name in names if name not in given]
        if self.registry is None and missing:
            raise InputError(
                "Configuration",
                "dds:registry",
                None,
                f"must name a registry for the images {', '.join(missing)}, since dds:kubecontext "
                "names a cluster; or give each of them in dds:images",
            )
        args: ImageCatalogArgs = {"names": list(names), "overrides": dict(given)}
        if self.registry is not None:
            args["registry"] = self.registry
        return ImageCatalog("images", args)


def target(settings: Settings) -> Target:
    """The cluster that the settings name, or the project's own, with a new namespace on it."""
    registry: pulumi.Output[str] | None
    if settings.kubecontext is not None:
        provider = kubernetes.Provider("kubernetes", context=settings.kubecontext)
        registry = None
    else:
        cluster = pulumi.StackReference(CLUSTER_STACK)
        provider = kubernetes.Provider(
            "kubernetes", kubeconfig=cluster.require_output("kubeconfig")
        )
        registry = cluster.require_output("registry")
    if settings.registry is not None:
        registry = pulumi.Output.from_input(settings.registry)
    namespace = Namespace(
        settings.composition,
        metadata={
            # The name is what a user types; only one stack of a composition fits on a cluster.
            "name": checks.dns_label("Configuration", "dds:composition", settings.composition),
            "labels": {
                "app.kubernetes.io/part-of": PART_OF,
                "app.kubernetes.io/managed-by": MANAGED_BY,
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/enforce-version": "latest",
                "pod-security.kubernetes.io/audit": "restricted",
                "pod-security.kubernetes.io/audit-version": "latest",
                "pod-security.kubernetes.io/warn": "restricted",
                "pod-security.kubernetes.io/warn-version": "latest",
            },
        },
        opts=pulumi.ResourceOptions(provider=provider),
    )
    return Target(settings, provider, namespace.metadata["name"], registry)
