"""The target of a composition: cluster, namespace and registry."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.core.v1 import Namespace

from dds_patterns import Hosting, ImageCatalog, ImageCatalogArgs
from dds_patterns.arguments import nearest
from stacks.settings import Settings, place

CLUSTER_STACK = "organization/dds/cluster"
"""The stack whose outputs describe the project's own cluster."""


@dataclass(frozen=True)
class Target:
    """A namespace on a cluster, and the images for it."""

    provider: kubernetes.Provider
    """Provider for everything on the cluster; give ``opts`` to components."""
    namespace: pulumi.Output[str]
    """Name of the composition's namespace, which enforces the Pod Security Standard."""
    images: ImageCatalog
    """The composition's images, from this repository or from the configuration."""

    @property
    def hosting(self) -> Hosting:
        """What every component of the composition takes."""
        return {"namespace": self.namespace}

    @property
    def opts(self) -> pulumi.ResourceOptions:
        """Options that put a component on this cluster."""
        return pulumi.ResourceOptions(providers=[self.provider])


def target(settings: Settings, names: Sequence[str]) -> Target:
    """The cluster in the settings, or the project's own, with a new namespace on it.

    :param names: the composition's images, folders below ``images``
    :raises InputError: a name in ``dds:images`` that the composition does not use; an image that
        must be built without a known registry
    """
    check_images(settings, names)
    missing = [name for name in names if name not in settings.images]
    if settings.kubecontext is not None and settings.registry is None and missing:
        place("registry").refuse(
            None,
            f"must name a registry for the images {', '.join(missing)}, since dds:kubecontext "
            "names a cluster; or give each of them in dds:images",
        )
    images: ImageCatalogArgs = {"names": list(names), "overrides": dict(settings.images)}
    if settings.registry is not None:
        images["registry"] = settings.registry
    if settings.kubecontext is not None:
        provider = kubernetes.Provider("kubernetes", context=settings.kubecontext)
    else:
        cluster = pulumi.StackReference(CLUSTER_STACK)
        provider = kubernetes.Provider(
            "kubernetes", kubeconfig=cluster.require_output("kubeconfig")
        )
        images.setdefault("registry", cluster.require_output("registry"))
    namespace = Namespace(
        settings.composition,
        metadata={
            # The name is what a user types; only one stack of a composition fits on a cluster.
            "name": settings.composition,
            "labels": {
                "app.kubernetes.io/part-of": "designing-distributed-systems",
                "app.kubernetes.io/managed-by": "pulumi",
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
    return Target(provider, namespace.metadata["name"], ImageCatalog("images", images))


def check_images(settings: Settings, names: Sequence[str]) -> None:
    """Refuse a name in ``dds:images`` that the composition does not use."""
    for name in settings.images:
        if name not in names:
            place("images").refuse(name, nearest(name, names))
