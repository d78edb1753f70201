"""The standard labels of Kubernetes, on every object of a workload."""

from collections.abc import Mapping

import pulumi

PART_OF = "designing-distributed-systems"
MANAGED_BY = "pulumi"

_PREFIX = "app.kubernetes.io"

SHARDS_OF = "dds/shards-of"
"""Key of the label of all pods of a shard set; its value is the set's name."""
POD_INDEX = "apps.kubernetes.io/pod-index"
"""Key of the label with a pod's number in its StatefulSet, from 0 (Kubernetes 1.28)."""
OWN = (
    *(f"{_PREFIX}/{key}" for key in ("name", "instance", "component", "version", "managed-by")),
    SHARDS_OF,
)
"""Keys that only a component may set: the first three select its pods."""
_OF_CONTROLLERS = ("pod-template-hash", "controller-revision-hash", "controller-uid", "job-name")
_PREFIXES_OF_CONTROLLERS = (
    "apps.kubernetes.io/",
    "batch.kubernetes.io/",
    "statefulset.kubernetes.io/",
)


def is_own(key: str) -> bool:
    """Whether a component sets a label, or a controller on the pods that it creates."""
    return key in OWN or key in _OF_CONTROLLERS or key.startswith(_PREFIXES_OF_CONTROLLERS)


def selector(application: str, instance: str, component: str) -> dict[str, str]:
    """The labels that select a workload's pods. They never change during its life.

    :param application: the program, for example ``redis``
    :param instance: the workload's name, unique among those of the same application
    :param component: its role, for example ``shard``
    """
    return {
        f"{_PREFIX}/name": application,
        f"{_PREFIX}/instance": instance,
        f"{_PREFIX}/component": component,
    }


def standard(
    selecting: Mapping[str, str], version: pulumi.Input[str] | None
) -> dict[str, pulumi.Input[str]]:
    """All standard labels of an object."""
    labels: dict[str, pulumi.Input[str]] = {
        **selecting,
        f"{_PREFIX}/part-of": PART_OF,
        f"{_PREFIX}/managed-by": MANAGED_BY,
    }
    if version is not None:
        labels[f"{_PREFIX}/version"] = version
    return labels
