"""Ranks: several StatefulSets in which the pods with the same number are replicas of each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi


@dataclass(frozen=True)
class Rank:
    """The place of a StatefulApplication in a component that consists of several."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the pods of all ranks, in addition to each rank's own selector."""
    several: bool = False
    """Whether there are others. Then ``hosting.spread`` applies to the pods with the same number, and
    the component of the ranks registers the PodDisruptionBudgets."""
    variable: str = ""
    """Name of an environment variable for the pod's number; empty for none."""
    after: tuple[pulumi.Resource, ...] = ()
    """Dependencies that are updated before the pods: the previous rank."""


ALONE = Rank()
"""The rank of a StatefulApplication that stands alone."""
