"""Ranks: several StatefulSets of which the pods with the same number stand for each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi


@dataclass(frozen=True)
class Rank:
    """What a StatefulApplication is among others, for what is made of several."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the pods of all ranks, beside those by which each one selects its own."""
    several: bool = False
    """Whether there are others. Then ``hosting.spread`` is about the pods with the same number, and a
    PodDisruptionBudget is for what makes the ranks to register."""
    variable: str = ""
    """Name of the environment variable with the pod's number; empty for none."""
    after: tuple[pulumi.Resource, ...] = ()
    """What is there, and updated, before the pods: those of the rank before."""


ALONE = Rank()
"""That of a StatefulApplication that is no part of anything."""
