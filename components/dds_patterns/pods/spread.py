"""Topology spread: how replicas are distributed over nodes and zones."""

from collections.abc import Mapping
from typing import Annotated, NotRequired, TypedDict

from pulumi_kubernetes.core.v1 import TopologySpreadConstraintArgsDict

from dds_patterns.arguments import Default, between, one_of
from dds_patterns.arguments.place import Place

SPREADS = ("soft", "even", "strict", "none")
"""Best effort, with a skew of at most one pod, at most one pod each, not at all."""

ZONE = "topology.kubernetes.io/zone"
_NODE = "kubernetes.io/hostname"
# With fewer domains than this the scheduler counts the global minimum as 0, so that no domain gets a
# second pod. No cluster has as many nodes.
_MORE_THAN_THERE_ARE = 100_000


class SpreadArgs(TypedDict):
    """How replicas are distributed. It has no effect on a single one."""

    nodes: NotRequired[Annotated[str, one_of(*SPREADS), Default("soft")]]
    """Over nodes. ``soft`` prefers the node with the fewest replicas. ``even`` leaves a pod pending if
    a node would have two more than another, ``strict`` if a node would have two. ``none`` disables
    it. In a rollout of an Application, pods of different revisions may share a node."""
    zones: NotRequired[Annotated[str, one_of(*SPREADS), Default("none")]]
    """The same over zones, by the label topology.kubernetes.io/zone. The nodes must have the label. If
    none has it, with ``soft`` the scheduler does not spread over nodes either; with ``even`` and
    ``strict`` all pods stay pending."""
    min_zones: NotRequired[Annotated[int, between(2, 100)]]
    """With ``zones: even``: minimum number of zones. While pods can be scheduled in fewer, each zone
    gets one pod and the others stay pending. By default the existing zones suffice."""


def check_spread(where: str, spread: SpreadArgs) -> None:
    """Refuse a number of zones that has no effect."""
    if "min_zones" in spread and spread["zones"] != "even":
        Place(where, "hosting.spread.min_zones").refuse(
            spread["min_zones"],
            f'must be left out: zones is {spread["zones"]!r}, and only "even" uses it',
        )


def spread_constraints(
    spread: SpreadArgs, selector: Mapping[str, str], match_label: str | None
) -> list[TopologySpreadConstraintArgsDict]:
    """The topology spread constraints of a pod.

    :param spread: as it was resolved
    :param selector: labels of the replicas
    :param match_label: key of a label, if only replicas with the pod's own value count: the same
        revision, the same shard
    """
    found = []
    for topology_key, kind in ((_NODE, spread["nodes"]), (ZONE, spread["zones"])):
        if kind == "none":
            continue
        constraint: TopologySpreadConstraintArgsDict = {
            "max_skew": 1,
            "topology_key": topology_key,
            "when_unsatisfiable": "ScheduleAnyway" if kind == "soft" else "DoNotSchedule",
            "label_selector": {"match_labels": dict(selector)},
            # Otherwise a node with a taint that the pod does not tolerate counts as the emptiest.
            "node_taints_policy": "Honor",
        }
        if match_label is not None:
            constraint["match_label_keys"] = [match_label]
        if kind == "strict":
            constraint["min_domains"] = _MORE_THAN_THERE_ARE
        elif topology_key == ZONE and "min_zones" in spread:
            constraint["min_domains"] = spread["min_zones"]
        found.append(constraint)
    return found
