"""NetworkPolicies: nothing in, nothing out, but the edges."""

from collections.abc import Iterable, Mapping, Sequence

import pulumi
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict
from pulumi_kubernetes.networking.v1 import (
    NetworkPolicy,
    NetworkPolicyEgressRuleArgsDict,
    NetworkPolicyIngressRuleArgsDict,
    NetworkPolicyPeerArgsDict,
    NetworkPolicyPortArgsDict,
    NetworkPolicySpecArgsDict,
)

from components.values.edges import DNS, Edge


def network_policy(
    name: str,
    *,
    metadata: ObjectMetaArgsDict,
    selector: Mapping[str, str],
    ingress: Sequence[Edge],
    egress: Sequence[Edge],
    opts: pulumi.ResourceOptions,
) -> NetworkPolicy:
    """A policy for the selected pods that lets through only the edges, and name resolution."""
    spec: NetworkPolicySpecArgsDict = {
        "pod_selector": {"match_labels": dict(selector)},
        "policy_types": ["Ingress", "Egress"],
        "egress": [_out(edge) for edge in _distinct([*DNS, *egress])],
    }
    if ingress:
        spec["ingress"] = [_in(edge) for edge in _distinct(ingress)]
    return NetworkPolicy(name, metadata=metadata, spec=spec, opts=opts)


def _in(edge: Edge) -> NetworkPolicyIngressRuleArgsDict:
    rule: NetworkPolicyIngressRuleArgsDict = {"ports": _ports(edge)}
    if peers := _peers(edge):
        rule["from_"] = peers
    return rule


def _out(edge: Edge) -> NetworkPolicyEgressRuleArgsDict:
    rule: NetworkPolicyEgressRuleArgsDict = {"ports": _ports(edge)}
    if peers := _peers(edge):
        rule["to"] = peers
    return rule


def _distinct(edges: Iterable[Edge]) -> list[Edge]:
    result: list[Edge] = []
    for edge in edges:
        if edge not in result:
            result.append(edge)
    return result


def _ports(edge: Edge) -> list[NetworkPolicyPortArgsDict]:
    return [{"port": port, "protocol": edge.protocol} for port in edge.ports]


def _peers(edge: Edge) -> list[NetworkPolicyPeerArgsDict]:
    if edge.cidr is not None:
        return [{"ip_block": {"cidr": edge.cidr}}]
    peer: NetworkPolicyPeerArgsDict = {}
    if edge.pods is not None:
        peer["pod_selector"] = {"match_labels": dict(edge.pods)}
    if edge.namespace is not None:
        peer["namespace_selector"] = {"match_labels": dict(edge.namespace)}
    return [peer] if peer else []
