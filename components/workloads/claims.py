"""The volumes of a StatefulSet: a claim for each replica, which can grow under it.

Kubernetes lets nobody change the claim templates of a StatefulSet, but it takes a claim that is there
already by its name. So the claims are registered beside it.
"""

from collections.abc import Mapping

import pulumi
from pulumi_kubernetes.core.v1 import (
    PersistentVolumeClaim,
    PersistentVolumeClaimArgsDict,
    PersistentVolumeClaimSpecArgsDict,
)

from components.pods.hosting import StorageArgs
from components.workloads.pod import PodPlan
from components.workloads.serving import NOT_AWAITED

CLAIM = "data"
"""Name of the claim template, and of the volume in the pods."""
SIZE_OF_TEMPLATE = "spec.volumeClaimTemplates[0].spec.resources"
"""What ``ignore_changes`` of the StatefulSet names, in the provider's spelling: its claims have sizes
of their own. Nothing wider, so that another class is seen."""
# The StatefulSet's controller may have made it, or a deployment that is gone but for its data.
_TAKEN_OVER = {"pulumi.com/patchForce": "true"}


def claim_template(
    selector: Mapping[str, str], storage: StorageArgs
) -> PersistentVolumeClaimArgsDict:
    """The StatefulSet's template, for replicas whose claim nobody has registered.

    :param selector: labels that select the pods; no others, since nobody can change them there
    """
    return {"metadata": {"name": CLAIM, "labels": dict(selector)}, "spec": _spec(storage)}


def make_claims(
    plan: PodPlan, storage: StorageArgs, replicas: int, opts: pulumi.ResourceOptions
) -> list[PersistentVolumeClaim]:
    """Register ``data-<name>-<n>`` for each replica.

    They are not waited for: a volume may be made only where the first pod is. They stay when they
    are no longer registered, so that a replica that is back finds its data; what becomes of them
    with the StatefulSet is for its ``persistentVolumeClaimRetentionPolicy`` to say.
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
