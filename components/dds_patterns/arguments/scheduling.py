"""Declared types of what the scheduler reads: tolerations, and affinity to nodes and other pods."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

from pulumi_kubernetes.core.v1 import AffinityArgsDict, TolerationArgsDict

from dds_patterns.arguments.constraints import Constraint, between, one_of
from dds_patterns.arguments.declared import Later
from dds_patterns.arguments.names import LabelKey, LabelValue, Namespace
from dds_patterns.arguments.place import Place

_SELECTING = ("In", "NotIn", "Exists", "DoesNotExist")


class _Toleration(TypedDict, total=False):
    key: LabelKey
    operator: Annotated[str, one_of("Equal", "Exists")]
    value: Later[LabelValue]
    effect: Annotated[str, one_of("NoSchedule", "PreferNoSchedule", "NoExecute")]
    toleration_seconds: int


class _NodeRequirement(TypedDict, total=False):
    key: LabelKey
    operator: Annotated[str, one_of(*_SELECTING, "Gt", "Lt")]
    values: Sequence[Later[LabelValue]]


class _LabelRequirement(TypedDict, total=False):
    key: LabelKey
    operator: Annotated[str, one_of(*_SELECTING)]
    values: Sequence[Later[LabelValue]]


class _Preferred(TypedDict, total=False):
    weight: Annotated[int, between(1, 100)]


class _PodTerm(TypedDict, total=False):
    topology_key: LabelKey
    namespaces: Sequence[Later[Namespace]]


class _Complete(Constraint):
    """Checks across the keys of a toleration, as in the API server."""

    def check(self, place: Place, value: Any) -> Any:
        """The toleration, or InputError."""
        exists = value.get("operator") == "Exists"
        if "key" not in value and not exists:
            place.refuse(value, 'must have a key, or the operator "Exists" for all taints')
        if exists and "value" in value:
            place.key("value").refuse(
                value["value"], 'must be left out with the operator "Exists", which is any value'
            )
        if "toleration_seconds" in value and value.get("effect") != "NoExecute":
            place.key("toleration_seconds").refuse(
                value["toleration_seconds"],
                'must be left out unless the effect is "NoExecute": other effects evict no pod',
            )
        return value


Tolerations = Sequence[
    Annotated[
        TolerationArgsDict,
        _Complete(
            "a taint that is tolerated",
            bool,
            (
                {},
                {"value": "x"},
                {"key": "a", "operator": "Exists", "value": "x"},
                {"key": "a", "value": "x", "effect": "NoSchedule", "toleration_seconds": 5},
                {"key": "a", "operator": "exists"},
                {"key": "a", "effect": "NoExec"},
            ),
        ),
    ]
]
"""Taints of nodes that a pod tolerates."""


class _Expressions(Constraint):
    """The number of values for each operator, as in the API server."""

    def check(self, place: Place, value: Any) -> Any:
        """The affinity, or InputError."""
        self._walk(place, value)
        return value

    def _walk(self, place: Place, value: Any) -> None:
        if isinstance(value, Mapping):
            if isinstance(value.get("operator"), str):
                self._count(place, value["operator"], value.get("values") or [])
            for key, item in value.items():
                self._walk(place.key(str(key)), item)
        elif isinstance(value, list | tuple):
            for position, item in enumerate(value):
                self._walk(place.entry(position), item)

    def _count(self, place: Place, operator: str, values: Sequence[Any]) -> None:
        if operator in ("In", "NotIn") and not values:
            place.key("values").refuse(values, f"must not be empty with the operator {operator}")
        if operator in ("Exists", "DoesNotExist") and values:
            place.key("values").refuse(values, f"must be left out with the operator {operator}")
        if operator in ("Gt", "Lt") and len(values) != 1:
            place.key("values").refuse(values, f"must be one number with the operator {operator}")


def _node_rule(**requirement: Any) -> dict[str, Any]:
    terms = {"node_selector_terms": [{"match_expressions": [requirement]}]}
    return {"node_affinity": {"required_during_scheduling_ignored_during_execution": terms}}


Affinity = Annotated[
    AffinityArgsDict,
    _Expressions(
        "rules for nodes and pods",
        bool,
        (
            {"nodes": {}},
            _node_rule(key="disk", operator="in", values=["fast"]),
            _node_rule(key="disk", operator="In", values=[]),
            _node_rule(key="disk", operator="Exists", values=["fast"]),
            _node_rule(key="cores", operator="Gt", values=["4", "8"]),
            _node_rule(key="a b", operator="Exists"),
        ),
    ),
]
"""Rules for nodes, and for other pods to be near to or away from."""

SHAPES: Mapping[str, type] = {
    "LabelSelectorRequirementArgsDict": _LabelRequirement,
    "NodeSelectorRequirementArgsDict": _NodeRequirement,
    "PodAffinityTermArgsDict": _PodTerm,
    "PreferredSchedulingTermArgsDict": _Preferred,
    "TolerationArgsDict": _Toleration,
    "WeightedPodAffinityTermArgsDict": _Preferred,
}
"""Declarations for Kubernetes' own types, by the name of the SDK's TypedDict."""
