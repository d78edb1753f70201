"""The volumes of a StatefulSet: a volume claim for each replica, which can be expanded.

The volume claim templates of a StatefulSet are immutable, but it uses an existing claim of the right
name. So the claims are registered as resources of their own.
"""

from collections.abc import Mapping

import pulumi
from pulumi_kubernetes.core.v1 import (
    PersistentVolumeClaim,
    PersistentVolumeClaimArgsDict,
    PersistentVolumeClaimSpecArgsDict,
)

from dds_patterns.pods.hosting import StorageArgs
from dds_patterns.workloads.pod import PodPlan
from dds_patterns.workloads.serving import NOT_AWAITED

CLAIM = "data"
"""Name of the claim template, and of the volume in the pods."""
SIZE_OF_TEMPLATE = "spec.volumeClaimTemplates[0].spec.resources"
"""Path for ``ignore_changes`` of the StatefulSet, in the provider's spelling: the claims have their own
sizes. It is no wider, so that a changed StorageClass is detected."""
# The StatefulSet controller may have created the claim, or a destroyed deployment that kept its data.
_TAKEN_OVER = {"pulumi.com/patchForce": "true"}


def claim_template(
    selector: Mapping[str, str], storage: StorageArgs
) -> PersistentVolumeClaimArgsDict:
    """The StatefulSet's template, for replicas without a registered claim.

    :param selector: labels that select the pods; no others, since a template is immutable
    """
    return {"metadata": {"name": CLAIM, "labels": dict(selector)}, "spec": _spec(storage)}


def make_claims(
    plan: PodPlan, storage: StorageArgs, replicas: int, opts: pulumi.ResourceOptions
) -> list[PersistentVolumeClaim]:
    """Register ``data-<name>-<n>`` for each replica.

    The update does not wait for them: with ``WaitForFirstConsumer`` a volume is provisioned only after
    its pod is scheduled. Claims that are no longer registered are retained, so that a replica that is
    scaled up again has its data. If the StatefulSet is deleted, its
    ``persistentVolumeClaimRetentionPolicy`` decides.
    """
    options = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(retain_on_delete=True))
    claims = []
    for ordinal in range(replicas):
        name = f"{CLAIM}-{plan.name}-{ordinal}"
        metadata = plan.metadata(annotations={**NOT_AWAITED, **_TAKEN_OVER})
        metadata["name"] = name
        claims.append(
            PersistentVolumeClaim(name, metadata=metadata, spec=_spec(storage), opts=options)
        )
    return claims


def _spec(storage: StorageArgs) -> PersistentVolumeClaimSpecArgsDict:
    spec: PersistentVolumeClaimSpecArgsDict = {
        "access_modes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage["size"]}},
    }
    if "storage_class" in storage:
        spec["storage_class_name"] = storage["storage_class"]
    return spec
