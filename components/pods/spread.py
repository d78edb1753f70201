"""Topology spread: how replicas are kept apart, over nodes and over zones."""

from collections.abc import Mapping
from typing import Annotated, NotRequired, TypedDict

from pulumi_kubernetes.core.v1 import TopologySpreadConstraintArgsDict

from components.arguments import Default, between, one_of
from components.arguments.place import Place

SPREADS = ("soft", "even", "strict", "none")
"""As far as possible, by at most one pod more than elsewhere, one pod each, not at all."""

ZONE = "topology.kubernetes.io/zone"
_NODE = "kubernetes.io/hostname"
# With fewer domains than this the scheduler takes the least filled one for empty, so that no domain
# gets a second pod. No cluster has as many nodes.
_MORE_THAN_THERE_ARE = 100_000


class SpreadArgs(TypedDict):
    """How replicas are kept apart. It has no effect on a single one."""

    nodes: NotRequired[Annotated[str, one_of(*SPREADS), Default("soft")]]
    """Over nodes. ``soft`` prefers the node with the fewest. ``even`` leaves a pod pending rather than
    give a node two more than another one has, ``strict`` rather than put it beside another. ``none``
    does not care. In a rollout of an Application a pod may stand beside one of another revision."""
    zones: NotRequired[Annotated[str, one_of(*SPREADS), Default("none")]]
    """The same over zones, by the label topology.kubernetes.io/zone. Only for nodes that have the
    label: with ``soft``, and none that has it, the scheduler would not spread over nodes either; with
    ``even`` and ``strict`` all pods would stay pending."""
    min_zones: NotRequired[Annotated[int, between(2, 100)]]
    """With ``zones: even``: zones that there should be. While pods can be scheduled in fewer, each
    gets one pod and the others stay pending. By default the zones that there are do."""


def check_spread(where: str, spread: SpreadArgs) -> None:
    """Refuse a number of zones that nothing counts."""
    if "min_zones" in spread and spread["zones"] != "even":
        Place(where, "hosting.spread.min_zones").refuse(
            spread["min_zones"],
            f'must be left out: zones is {spread["zones"]!r}, and only "even" counts them',
        )


def spread_constraints(
    spread: SpreadArgs, selector: Mapping[str, str], match_label: str | None
) -> list[TopologySpreadConstraintArgsDict]:
    """The constraints of a pod.

    :param spread: as it was resolved
    :param selector: labels of the replicas
    :param match_label: key of a label, if a pod is kept apart only from those of them that have its
        own value there: the same revision, the same shard
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
            # A node that the pod does not tolerate would count as the one with the fewest.
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
