"""The standard labels of Kubernetes, on every object of a workload."""

import pulumi

PART_OF = "designing-distributed-systems"
MANAGED_BY = "pulumi"

_PREFIX = "app.kubernetes.io"


def selector(application: str, instance: str, component: str) -> dict[str, str]:
    """The labels that select a workload's pods. They never change during its life.

    :param application: what runs, for example ``redis``
    :param instance: the workload's name, which tells several of the same application apart
    :param component: the part it plays, for example ``shard``
    """
    return {
        f"{_PREFIX}/name": application,
        f"{_PREFIX}/instance": instance,
        f"{_PREFIX}/component": component,
    }


def standard(
    selecting: dict[str, str], version: pulumi.Input[str] | None
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
