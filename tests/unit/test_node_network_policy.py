"""The node's rules for NetworkPolicies, asked packet by packet.

`Firewall` reads the generated table the way the kernel does, for the few words it uses; where `nft` is
installed a test lets it check the whole text.
"""

import ipaddress
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from toolchain.node.program import network_policy

NODE = "here"
RANGE = "10.42.0.0/16"


class Firewall:
    """The generated rules, applied to one packet of a new connection."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.chains: dict[str, list[str]] = {}
        self.known: set[str] = set()
        chain: list[str] = []
        for line in text.splitlines():
            if opened := re.fullmatch(r"chain (\S+) \{", line):
                chain = self.chains.setdefault(opened[1], [])
            elif line.startswith("elements ="):
                self.known = set(re.findall(r"[\d.]+", line))
            elif not line.startswith(("type", "table", "delete", "set", "}", "ct state")):
                chain.append(line)

    def verdict(
        self, source: str, target: str, port: int = 80, protocol: str = "tcp", hook: str = "forward"
    ) -> str:
        packet = {"saddr": source, "daddr": target, "protocol": protocol, "port": port}
        for base in ("egress", "ingress") if hook == "forward" else ("to-node",):
            found = self._chain(base, packet)
            if found in ("drop", "reject"):
                return found
        return "accept"

    def _chain(self, name: str, packet: Mapping[str, Any]) -> str:
        for line in self.chains[name]:
            found = self._rule(line, packet)
            if found:
                return found
        return ""

    def _rule(self, line: str, packet: Mapping[str, Any]) -> str:
        if both := re.fullmatch(r"ip saddr \. ip daddr \{ (.*) \} accept", line):
            pair = f"{packet['saddr']} . {packet['daddr']}"
            return "accept" if pair in both[1].split(", ") else ""
        if jumps := re.fullmatch(r"ip (\w+) vmap \{ (.*) \}", line):
            for entry in jumps[2].split(", "):
                address, chain = entry.split(" : jump ")
                if packet[jumps[1]] == address:
                    return self._chain(chain, packet)
            return ""
        rest = line
        while match := re.match(r"(ip \w+|meta l4proto|\w+ dport) (!= )?(\{ [^}]* \}|\S+) ", rest):
            rest = rest[match.end() :]
            if self._matches(match[1], match[3], packet) == bool(match[2]):
                return ""
        if rest.startswith("jump "):
            return self._chain(rest.removeprefix("jump "), packet)
        if rest.startswith("reject"):
            return "reject"
        assert rest in ("accept", "drop"), line
        return rest

    def _matches(self, field: str, values: str, packet: Mapping[str, Any]) -> bool:
        listed = values.strip("{} ").split(", ")
        kind, what = field.split()
        if kind == "ip":
            if values == "@pods":
                return packet[what] in self.known
            address = ipaddress.ip_address(packet[what])
            return any(address in ipaddress.ip_network(value) for value in listed)
        if kind == "meta":
            return packet["protocol"] in listed
        ranges = [[int(end) for end in value.split("-")] for value in listed]
        return packet["protocol"] == kind and any(r[0] <= packet["port"] <= r[-1] for r in ranges)


def pod(
    name: str, ip: str, *, namespace: str = "shop", node: str = NODE, **more: Any
) -> dict[str, Any]:
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node,
            "hostNetwork": more.get("host_network", False),
            "containers": [{"ports": more.get("ports", [])}],
            "initContainers": more.get("init", []),
        },
        "status": {"podIP": ip, "phase": more.get("phase", "Running")},
    }


WEB = pod("web", "10.42.0.2", ports=[{"name": "http", "containerPort": 8080}])
CLIENT = pod("client", "10.42.0.3")
FAR = pod("far", "10.42.1.3", node="there", ports=[{"name": "http", "containerPort": 9090}])
OTHER = pod("client", "10.42.1.4", namespace="other", node="there")
PODS = (WEB, CLIENT, FAR, OTHER)
NAMESPACES = (
    {"metadata": {"name": "shop", "labels": {"team": "a"}}},
    {"metadata": {"name": "other", "labels": {"team": "b"}}},
)


def policy(
    spec: Mapping[str, Any], name: str = "policy", namespace: str = "shop"
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, **spec},
    }


def firewall(
    *policies: Mapping[str, Any],
    pods: Sequence[Mapping[str, Any]] = PODS,
    addresses: Mapping[tuple[str, str], str] | None = None,
) -> Firewall:
    every_pod = network_policy.pods(pods, addresses or {})
    return Firewall(network_policy.rules(every_pod, NAMESPACES, policies, NODE, RANGE))


web, client, far, other = (str(p["status"]["podIP"]) for p in PODS)
DENY = policy({"policyTypes": ["Ingress", "Egress"]}, "deny")
TO_WEB = {"podSelector": {"matchLabels": {"app": "web"}}}


def ingress(rule: Mapping[str, Any]) -> dict[str, Any]:
    return policy({**TO_WEB, "policyTypes": ["Ingress"], "ingress": [rule]})


def egress(rule: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {"matchLabels": {"app": "client"}}
    return policy({"podSelector": chosen, "policyTypes": ["Egress"], "egress": [rule]})


def test_without_policies_everything_passes() -> None:
    assert firewall().verdict(client, web) == "accept"
    assert firewall().verdict(web, "192.0.2.1") == "accept"


def test_default_deny_refuses_both_directions_and_leaves_others_alone() -> None:
    rules = firewall(DENY)
    assert rules.verdict(client, web) == "reject"
    assert rules.verdict(other, web) == "reject"
    assert rules.verdict(web, "192.0.2.1") == "reject"
    # The pods of other nodes are those nodes' business.
    assert rules.verdict(far, "192.0.2.1") == "accept"


def test_ingress_needs_the_sources_egress_as_well() -> None:
    opened = ingress({"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]})
    assert firewall(opened).verdict(client, web) == "accept"
    assert firewall(opened, DENY).verdict(client, web) == "reject"
    both = egress({"to": [{"podSelector": {"matchLabels": {"app": "web"}}}]})
    both["metadata"]["name"] = "both"
    assert firewall(opened, DENY, both).verdict(client, web) == "accept"


def test_a_pod_selector_alone_means_the_policys_own_namespace() -> None:
    rules = firewall(ingress({"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}))
    assert rules.verdict(client, web) == "accept"
    assert rules.verdict(other, web) == "reject"


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ({"namespaceSelector": {}}, {client, far, other}),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, {other}),
        (
            {
                "namespaceSelector": {"matchLabels": {"team": "b"}},
                "podSelector": {"matchLabels": {"app": "far"}},
            },
            set(),
        ),
        (
            {"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}},
            {client, far},
        ),
        (
            {
                "podSelector": {
                    "matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["far"]}]
                }
            },
            {client},
        ),
        ({"ipBlock": {"cidr": "10.42.1.0/24"}}, {far, other}),
        ({"ipBlock": {"cidr": "10.42.0.0/16", "except": ["10.42.1.0/30"]}}, {client, other}),
        ({"ipBlock": {"cidr": "fd00::/8"}}, set()),
    ],
)
def test_peers(peer: Mapping[str, Any], allowed: set[str]) -> None:
    rules = firewall(ingress({"from": [peer]}))
    assert {ip for ip in (client, far, other) if rules.verdict(ip, web) == "accept"} == allowed


def test_several_peers_of_one_rule_are_alternatives() -> None:
    rules = firewall(
        ingress(
            {
                "from": [
                    {"podSelector": {"matchLabels": {"app": "far"}}},
                    {"ipBlock": {"cidr": f"{other}/32"}},
                ]
            }
        )
    )
    assert [rules.verdict(ip, web) for ip in (far, other, client)] == ["accept", "accept", "reject"]


@pytest.mark.parametrize(
    ("ports", "packets"),
    [
        ([{"port": 80}], {(80, "tcp"): True, (81, "tcp"): False, (80, "udp"): False}),
        ([{"port": 53, "protocol": "UDP"}], {(53, "udp"): True, (53, "tcp"): False}),
        ([{"port": 80, "endPort": 85}], {(85, "tcp"): True, (86, "tcp"): False}),
        (
            [{"port": 80, "endPort": 85}, {"port": 83}, {"port": 90}],
            {(83, "tcp"): True, (90, "tcp"): True},
        ),
        ([{"port": "http"}], {(8080, "tcp"): True, (9090, "tcp"): False, (80, "tcp"): False}),
        ([{"port": "absent"}], {(8080, "tcp"): False, (80, "tcp"): False}),
        ([{"protocol": "UDP"}], {(7, "udp"): True, (7, "tcp"): False}),
        ([], {(7, "udp"): True, (9999, "tcp"): True}),
    ],
)
def test_ports(ports: list[Mapping[str, Any]], packets: Mapping[tuple[int, str], bool]) -> None:
    for rule in ({"ports": ports}, {"ports": ports, "from": [{"podSelector": {}}]}):
        rules = firewall(ingress(rule))
        for (port, protocol), passes in packets.items():
            expected = "accept" if passes else "reject"
            assert rules.verdict(client, web, port, protocol) == expected, (rule, port, protocol)


def test_a_named_port_of_egress_is_what_each_destination_calls_so() -> None:
    for rule in (
        {"ports": [{"port": "http"}]},
        {"ports": [{"port": "http"}], "to": [{"podSelector": {}}]},
    ):
        rules = firewall(egress(rule))
        assert rules.verdict(client, web, 8080) == "accept"
        assert rules.verdict(client, far, 9090) == "accept"
        assert rules.verdict(client, web, 9090) == "reject"
        assert rules.verdict(client, far, 8080) == "reject"


def test_a_sidecars_ports_have_names_too() -> None:
    sidecar = {"restartPolicy": "Always", "ports": [{"name": "proxy", "containerPort": 6379}]}
    pods = (pod("web", web, init=[sidecar]), CLIENT)
    rules = firewall(ingress({"ports": [{"port": "proxy"}]}), pods=pods)
    assert rules.verdict(client, web, 6379) == "accept"


def test_an_empty_rule_allows_everything_and_no_rule_nothing() -> None:
    assert firewall(ingress({})).verdict("192.0.2.1", web, 1, "udp") == "accept"
    assert firewall(policy({**TO_WEB, "ingress": []})).verdict(client, web) == "reject"


@pytest.mark.parametrize(
    ("spec", "isolates"),
    [
        ({}, ("Ingress",)),
        ({"egress": [{}]}, ("Ingress", "Egress")),
        ({"policyTypes": ["Egress"]}, ("Egress",)),
        ({"policyTypes": ["Egress", "Ingress"], "egress": []}, ("Ingress", "Egress")),
    ],
)
def test_directions(spec: Mapping[str, Any], isolates: tuple[str, ...]) -> None:
    assert network_policy.directions(policy(spec)) == isolates


def test_egress_to_the_node_itself_is_decided_as_well() -> None:
    rules = firewall(
        egress({"to": [{"ipBlock": {"cidr": "172.18.0.2/32"}}], "ports": [{"port": 6443}]})
    )
    assert rules.verdict(client, "172.18.0.2", 6443, hook="input") == "accept"
    assert rules.verdict(client, "172.18.0.2", 10250, hook="input") == "reject"
    assert rules.verdict(web, "172.18.0.2", 10250, hook="input") == "accept"


def test_a_pod_reaches_itself() -> None:
    assert firewall(DENY).verdict(web, web) == "accept"


def test_an_address_not_known_yet_is_dropped_so_that_a_retry_can_succeed() -> None:
    rules = firewall(DENY)
    assert rules.verdict("10.42.1.99", web) == "drop"
    assert rules.verdict("192.0.2.1", web) == "reject"


def test_a_new_pods_address_counts_before_the_api_has_it() -> None:
    new = pod("new", "")
    rules = firewall(DENY, pods=(*PODS, new), addresses={("shop", "new"): "10.42.0.9"})
    assert rules.verdict(client, "10.42.0.9") == "reject"
    assert firewall(DENY, pods=(*PODS, new)).verdict("192.0.2.1", "10.42.0.9") == "accept"


def test_an_address_that_went_to_another_pod_is_no_longer_the_old_ones() -> None:
    heir = pod("heir", "")
    rules = firewall(
        policy({"podSelector": {"matchLabels": {"app": "web"}}}),
        pods=(*PODS, heir),
        addresses={("shop", "heir"): web},
    )
    assert rules.verdict(client, web) == "accept"


def test_pods_that_have_ended_or_use_the_nodes_network_do_not_count() -> None:
    ended, host = (
        pod("ended", "10.42.0.7", phase="Succeeded"),
        pod("host", "172.18.0.2", host_network=True),
    )
    assert [p.name for p in network_policy.pods((ended, host, WEB), {})] == ["web"]


def test_the_text_depends_on_what_there_is_not_on_its_order() -> None:
    policies = (DENY, ingress({"ports": [{"port": 80}]}))
    forward = firewall(*policies).text
    assert forward == firewall(*reversed(policies), pods=PODS[::-1]).text


@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed")
def test_nft_takes_the_text() -> None:
    peers = [
        {"podSelector": {}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.1.2.0/24"]}},
    ]
    ports = [
        {"port": 80, "endPort": 85},
        {"port": 83},
        {"port": 53, "protocol": "UDP"},
        {"protocol": "SCTP"},
    ]
    text = firewall(DENY, ingress({"from": peers, "ports": ports}), egress({"to": peers})).text
    done = subprocess.run(
        ["nft", "--check", "-f", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
