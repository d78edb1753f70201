"""Which fields the API server does not let change, so that the object has to be replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Paths that are fixed, and paths below them that are not. Elements of lists have no index."""

    paths: tuple[str, ...]
    except_for: tuple[str, ...] = ()


_EVERYWHERE: Final = ("apiVersion", "kind", "metadata.name", "metadata.namespace")
_POD_MUTABLE = (
    "spec.containers[].image",
    "spec.initContainers[].image",
    "spec.activeDeadlineSeconds",
    "spec.tolerations",
    "spec.terminationGracePeriodSeconds",
)
_TABLE: Final[Mapping[str, Fixed]] = {
    "PersistentVolume": Fixed(
        ("spec",),
        (
            "spec.capacity",
            "spec.accessModes",
            "spec.claimRef",
            "spec.mountOptions",
            "spec.persistentVolumeReclaimPolicy",
            "spec.storageClassName",
            "spec.volumeAttributesClassName",
        ),
    ),
    "PersistentVolumeClaim": Fixed(
        ("spec",), ("spec.resources.requests", "spec.volumeAttributesClassName")
    ),
    "Pod": Fixed(("spec",), _POD_MUTABLE),
    "Secret": Fixed(("type",)),
    "Service": Fixed(("spec.clusterIP", "spec.clusterIPs")),
    "apiextensions.k8s.io/CustomResourceDefinition": Fixed(
        ("spec.group", "spec.scope", "spec.names.kind", "spec.names.plural")
    ),
    "apps/DaemonSet": Fixed(("spec.selector",)),
    "apps/Deployment": Fixed(("spec.selector",)),
    "apps/ReplicaSet": Fixed(("spec.selector",)),
    "apps/StatefulSet": Fixed(
        ("spec",),
        (
            "spec.minReadySeconds",
            "spec.ordinals",
            "spec.persistentVolumeClaimRetentionPolicy",
            "spec.replicas",
            "spec.revisionHistoryLimit",
            "spec.template",
            "spec.updateStrategy",
        ),
    ),
    "batch/Job": Fixed(
        ("spec",),
        (
            "spec.activeDeadlineSeconds",
            "spec.backoffLimit",
            "spec.parallelism",
            "spec.suspend",
            "spec.ttlSecondsAfterFinished",
        ),
    ),
    "networking.k8s.io/IngressClass": Fixed(("spec.controller",)),
    "node.k8s.io/RuntimeClass": Fixed(("handler",)),
    "rbac.authorization.k8s.io/ClusterRoleBinding": Fixed(("roleRef",)),
    "rbac.authorization.k8s.io/RoleBinding": Fixed(("roleRef",)),
    "scheduling.k8s.io/PriorityClass": Fixed(("value", "preemptionPolicy")),
    "storage.k8s.io/StorageClass": Fixed(
        ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode")
    ),
}
# By choice, not of the server: with chosen names, what mounts them rolls when their data changes.
_DATA: Final[Mapping[str, tuple[str, ...]]] = {
    "ConfigMap": ("data", "binaryData", "immutable"),
    "Secret": ("data", "stringData", "immutable"),
}


def fixed(
    group_kind: str, old: Mapping[str, Any], *, mutable_config: bool, mutable_secret: bool
) -> Fixed:
    """What a change of which replaces an object.

    Args:
        group_kind: For example ``apps/Deployment``.
        old: The inputs of the last operation.
        mutable_config: The provider's ``enableConfigMapMutable``.
        mutable_secret: The provider's ``enableSecretMutable``.
    """
    found = _TABLE.get(group_kind, Fixed(()))
    mutable = mutable_config if group_kind == "ConfigMap" else mutable_secret
    data = _DATA.get(group_kind, ())
    if mutable and not old.get("immutable"):
        data = ()
    return Fixed((*_EVERYWHERE, *found.paths, *data), found.except_for)


def is_fixed(path: tuple[str, ...], rule: Fixed) -> bool:
    """Whether a changed property is fixed.

    Args:
        path: The property's steps; an element of a list is ``[]``.
        rule: The kind's fixed fields.
    """
    within = any(_begins(path, fixed_path) for fixed_path in rule.paths)
    return within and not any(_begins(path, free) for free in rule.except_for)


def _begins(path: tuple[str, ...], prefix: str) -> bool:
    steps = tuple(prefix.replace("[]", ".[]").split("."))
    return path[: len(steps)] == steps
