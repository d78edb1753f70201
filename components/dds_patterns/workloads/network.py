"""NetworkPolicies: all ingress and egress is denied but what is declared.

A workload has one policy of its own: ingress to its ports from their clients, egress to what it
reaches, to DNS, and to the API server if it has RBAC rules. For each isolated workload that it
reaches it registers one more, which selects the pods there and allows ingress from its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict
from pulumi_kubernetes.networking.v1 import (
    NetworkPolicy,
    NetworkPolicyEgressRuleArgsDict,
    NetworkPolicyIngressRuleArgsDict,
    NetworkPolicyPeerArgsDict,
    NetworkPolicyPortArgsDict,
)

from dds_patterns.pods.hosting import marks
from dds_patterns.values.peers import NAMESPACE_NAME, NetworkArgs, PeerArgs
from dds_patterns.values.reach import Reach


@dataclass(frozen=True)
class Admission:
    """A port, and the clients that may connect to it."""

    port: int
    protocol: str
    clients: Sequence[PeerArgs]


@dataclass(frozen=True)
class Connections:
    """Connections that one workload's pods accept and open."""

    admissions: Sequence[Admission]
    reaches: Sequence[Reach]
    api_server: bool
    """Whether a container of the pods has RBAC rules."""
    network: NetworkArgs
    """Where the cluster's own services are."""

    def ingress(self) -> list[NetworkPolicyIngressRuleArgsDict]:
        """The ingress rules, one for all ports with the same clients."""
        rules: list[NetworkPolicyIngressRuleArgsDict] = []
        peers: list[Sequence[PeerArgs]] = []
        for admission in self.admissions:
            if not admission.clients:
                continue
            port = _port(admission.port, admission.protocol)
            if admission.clients in peers:
                ports = rules[peers.index(admission.clients)]["ports"]
                cast(list[NetworkPolicyPortArgsDict], ports).append(port)
            else:
                peers.append(admission.clients)
                rules.append({"ports": [port], "from_": _peers(admission.clients)})
        return rules

    def egress(self) -> list[NetworkPolicyEgressRuleArgsDict]:
        """The egress rules."""
        network = self.network
        dns = [_port(port, kind) for port in network["dns_ports"] for kind in ("UDP", "TCP")]
        rules = [_out(dns, network["dns"])]
        if self.api_server:
            ports = [_port(port) for port in network["api_server_ports"]]
            rules.append(_out(ports, network.get("api_server", ())))
        for reach in self.reaches:
            rule = _out(_ports(reach), _ends(reach))
            if rule not in rules:
                rules.append(rule)
        return rules

    def isolated(self) -> list[Reach]:
        """The reaches whose pods need a policy that allows this workload's ingress, each once."""
        found: list[Reach] = []
        told: list[Any] = []
        for reach in self.reaches:
            end = (reach.pods, reach.ports, reach.protocol, reach.namespace)
            if reach.isolated and end not in told:
                told.append(end)
                found.append(reach)
        return found

    def depends_on(self) -> list[pulumi.Resource]:
        """Dependencies that must be ready before the pods start."""
        return [resource for reach in self.reaches for resource in reach.depends_on]

    def register(
        self,
        name: str,
        *,
        metadata: ObjectMetaArgsDict,
        namespace: pulumi.Input[str],
        selector: Mapping[str, str],
        opts: pulumi.ResourceOptions,
    ) -> list[NetworkPolicy]:
        """Register the policies.

        :param namespace: the pods' own, as the cluster has it
        :param selector: labels of the pods
        """
        own = NetworkPolicy(
            name,
            metadata=metadata,
            spec={
                "pod_selector": {"match_labels": dict(selector)},
                "policy_types": ["Ingress", "Egress"],
                "egress": self.egress(),
                **({"ingress": rules} if (rules := self.ingress()) else {}),
            },
            opts=opts,
        )
        clients = _peers([{"pods": selector, "namespace": namespace}])
        policies = [own]
        names = {name}
        for reach in self.isolated():
            # A policy's name may have 253 characters.
            there = _free(f"{name}-to-{reach.name}", names)
            target = namespace if reach.namespace is None else reach.namespace
            policies.append(
                NetworkPolicy(
                    there,
                    metadata={**marks(metadata), "namespace": target},
                    spec={
                        "pod_selector": {"match_labels": dict(reach.pods or {})},
                        "policy_types": ["Ingress"],
                        "ingress": [{"ports": _ports(reach), "from_": clients}],
                    },
                    opts=opts,
                )
            )
        return policies


def _free(name: str, taken: set[str]) -> str:
    """The name, or one with a number: stores in different namespaces may have the same name."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found)
    return found


def _ends(reach: Reach) -> list[PeerArgs]:
    if reach.cidrs:
        return [{"cidr": cidr} for cidr in reach.cidrs]
    end: PeerArgs = {"pods": reach.pods or {}}
    if reach.namespace is not None:
        end["namespace"] = reach.namespace
    return [end]


def _port(port: int, protocol: str = "TCP") -> NetworkPolicyPortArgsDict:
    return {"port": port, "protocol": protocol}


def _ports(reach: Reach) -> list[NetworkPolicyPortArgsDict]:
    return [_port(port, reach.protocol) for port in reach.ports]


def _out(
    ports: Sequence[NetworkPolicyPortArgsDict], peers: Sequence[PeerArgs]
) -> NetworkPolicyEgressRuleArgsDict:
    rule: NetworkPolicyEgressRuleArgsDict = {"ports": ports}
    if peers:
        rule["to"] = _peers(peers)
    return rule


def _peers(peers: Sequence[PeerArgs]) -> list[NetworkPolicyPeerArgsDict]:
    return [_peer(peer) for peer in peers]


def _peer(peer: PeerArgs) -> NetworkPolicyPeerArgsDict:
    if "cidr" in peer:
        return {"ip_block": {"cidr": peer["cidr"]}}
    found: NetworkPolicyPeerArgsDict = {
        "pod_selector": {"match_labels": dict(peer.get("pods", {}))}
    }
    if "namespace" in peer:
        found["namespace_selector"] = {"match_labels": {NAMESPACE_NAME: peer["namespace"]}}
    elif "namespaces" in peer:
        found["namespace_selector"] = {"match_labels": dict(peer["namespaces"])}
    return found
