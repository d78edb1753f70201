"""Which kind is waited for by which rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from toolchain.plugins.kubernetes import annotation
from toolchain.plugins.kubernetes.readiness import (
    cluster,
    conditions,
    jobs,
    network,
    storage,
    workloads,
)

if TYPE_CHECKING:
    from toolchain.plugins.kubernetes.readiness.rule import Rule

_RULES: Final[Mapping[str, Rule]] = {
    "Namespace": cluster.NAMESPACE,
    "PersistentVolume": storage.VOLUME,
    "PersistentVolumeClaim": storage.CLAIM,
    "Pod": workloads.POD,
    "Service": network.SERVICE,
    "apiextensions.k8s.io/CustomResourceDefinition": cluster.DEFINITION,
    "apiregistration.k8s.io/APIService": cluster.API_SERVICE,
    "apps/DaemonSet": workloads.DAEMON_SET,
    "apps/Deployment": workloads.DEPLOYMENT,
    "apps/ReplicaSet": workloads.REPLICA_SET,
    "apps/StatefulSet": workloads.STATEFUL_SET,
    "batch/Job": jobs.JOB,
}


def rule_for(group_kind: str, thing: Mapping[str, Any]) -> Rule | None:
    """The rule for an object; None if nothing is waited for.

    Raises:
        ProviderError: Its annotation ``pulumi.com/waitFor`` cannot be read.
    """
    if annotation.is_true(thing, annotation.SKIP_AWAIT):
        return None
    text = annotation.value(thing, annotation.WAIT_FOR)
    return conditions.rule(text) if text else _RULES.get(group_kind)
