"""Translates NetworkPolicies into the text of an nftables table.

A connection between two pods passes two chains in the forward hook, `egress` on the source's node and
`ingress` on the destination's; each decides separately, and a verdict `accept` ends only that chain.
Packets from the node itself pass the output hook, so the kubelet's probes are always allowed. Packets
to the node (such as to the API server) pass the input hook, which has the egress rules too.
"""

import hashlib
import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]
TABLE = "node-policy"
PROTOCOLS = ("TCP", "UDP", "SCTP")


@dataclass(frozen=True)
class Pod:
    """A pod's properties for policies. `ports` maps (name, protocol) to the number."""

    namespace: str
    name: str
    node: str
    ip: str
    labels: Mapping[str, str]
    ports: Mapping[tuple[str, str], int] = field(default_factory=dict)


def _containers(spec: Object) -> Iterable[Object]:
    yield from spec.get("containers") or ()
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            yield container


def _ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        return ""


def pods(objects: Iterable[Object], addresses: Mapping[tuple[str, str], str]) -> list[Pod]:
    """The pods with an address in the pod network.

    `addresses` (by namespace and name) override those of the API: a node knows the address of its own
    new pod first. Terminated pods are skipped, and pods whose address belongs to another pod by now.
    """
    found = []
    taken = {ip: key for key, ip in addresses.items()}
    for item in objects:
        spec, status = item.get("spec", {}), item.get("status", {})
        if spec.get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
            continue
        metadata = item["metadata"]
        key = (metadata["namespace"], metadata["name"])
        ip = addresses.get(key) or _ipv4(status.get("podIP", ""))
        if not ip or taken.get(ip, key) != key:
            continue
        ports = {
            (port["name"], port.get("protocol", "TCP")): int(port["containerPort"])
            for container in _containers(spec)
            for port in container.get("ports") or ()
            if port.get("name")
        }
        labels = metadata.get("labels") or {}
        found.append(Pod(*key, spec.get("nodeName", ""), ip, labels, ports))
    return sorted(found, key=lambda pod: (pod.namespace, pod.name))


def selects(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches labels; an empty one matches everything."""
    selector = selector or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or ():
        key, operator = expression["key"], expression["operator"]
        values = expression.get("values") or ()
        results = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not results.get(operator, False):
            return False
    return True


def directions(policy: Object) -> tuple[str, ...]:
    """The directions that a policy isolates: `Ingress`, `Egress` or both. Without policyTypes, egress
    only if it has egress rules.
    """
    spec = policy.get("spec", {})
    types = spec.get("policyTypes") or (["Ingress"] + (["Egress"] if spec.get("egress") else []))
    return tuple(kind for kind in ("Ingress", "Egress") if kind in types)


@dataclass(frozen=True)
class _World:
    pods: Sequence[Pod]
    namespaces: Mapping[str, Mapping[str, str]]

    def peers(self, peer: Object, own_namespace: str) -> list[Pod]:
        """The pods that a `from` or `to` entry without ipBlock selects."""
        across = peer.get("namespaceSelector")
        return [
            pod
            for pod in self.pods
            if selects(peer.get("podSelector"), pod.labels)
            and (
                pod.namespace == own_namespace
                if across is None
                else pod.namespace in self.namespaces
                and selects(across, self.namespaces[pod.namespace])
            )
        ]


def _set(values: Iterable[str]) -> str:
    listed = list(dict.fromkeys(values))
    return listed[0] if len(listed) == 1 else "{ " + ", ".join(listed) + " }"


def _blocks(peer: Object, side: str) -> list[str]:
    """The matches of an ipBlock on the addresses of `side` (saddr or daddr); none for IPv6."""
    block = peer["ipBlock"]
    try:
        network = ipaddress.IPv4Network(block["cidr"], strict=False)
        excepted = [ipaddress.IPv4Network(e, strict=False) for e in block.get("except") or ()]
    except ValueError:
        return []
    parts = [f"ip {side} {network}"]
    if excepted:
        collapsed = ipaddress.collapse_addresses(excepted)
        parts.append(f"ip {side} != {_set(str(network) for network in collapsed)}")
    return [" ".join(parts)]


def _port_matches(ports: Sequence[Object], target: Pod | None) -> list[str]:
    """The matches on the destination port; one empty match for all ports.

    A named port is resolved in the destination pod, `target`, if there is one.
    """
    if not ports:
        return [""]
    numbers: dict[str, list[str]] = defaultdict(list)
    whole: list[str] = []
    for port in ports:
        protocol = port.get("protocol") or "TCP"
        if protocol not in PROTOCOLS:
            continue
        number = port.get("port")
        if number is None:
            whole.append(protocol)
        elif isinstance(number, str) and not number.isdigit():
            if target and (number, protocol) in target.ports:
                numbers[protocol].append(str(target.ports[number, protocol]))
        else:
            end = port.get("endPort")
            numbers[protocol].append(f"{number}-{end}" if end and end != number else f"{number}")
    matches = [f"meta l4proto {protocol.lower()}" for protocol in dict.fromkeys(whole)]
    for protocol, listed in numbers.items():
        if protocol not in whole:
            matches.append(f"{protocol.lower()} dport {_set(listed)}")
    return matches


def _has_name(ports: Sequence[Object]) -> bool:
    return any(isinstance(p.get("port"), str) and not p["port"].isdigit() for p in ports)


def _accepts(world: _World, policy: Object, pod: Pod, direction: str) -> list[str]:
    """The accept rules of one policy for one of its pods in one direction."""
    side, listed, peers_key = (
        ("saddr", "ingress", "from") if direction == "Ingress" else ("daddr", "egress", "to")
    )
    lines = []
    for rule in policy["spec"].get(listed) or ():
        ports = rule.get("ports") or ()
        peers = rule.get(peers_key) or ()
        own = pod if direction == "Ingress" else None
        if not peers:
            sources = [""]
            if own is None and _has_name(ports):
                # Any destination with a named port: every pod with a port of that name.
                lines += _per_target(world.pods, ports)
        else:
            chosen: list[Pod] = []
            sources = []
            for peer in peers:
                if "ipBlock" in peer:
                    sources += _blocks(peer, side)
                else:
                    chosen += world.peers(peer, policy["metadata"]["namespace"])
            if chosen and own is None and _has_name(ports):
                lines += _per_target(chosen, ports)
            elif chosen:
                sources.append(f"ip {side} {_set(sorted(peer.ip for peer in chosen))}")
        for source in sources:
            for match in _port_matches(ports, own):
                lines.append(" ".join(part for part in (source, match, "accept") if part))
    return lines


def _per_target(targets: Iterable[Pod], ports: Sequence[Object]) -> list[str]:
    """Egress with named ports, whose numbers depend on each destination."""
    grouped: dict[str, list[str]] = defaultdict(list)
    for target in targets:
        for match in _port_matches(ports, target):
            grouped[match].append(target.ip)
    return [f"ip daddr {_set(sorted(ips))} {match} accept" for match, ips in grouped.items()]


def _isolation(
    world: _World, policies: Sequence[Object], pod: Pod, direction: str
) -> tuple[str, ...] | None:
    """The accept rules of all policies of a pod, or None if no policy isolates it."""
    applying = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == pod.namespace
        and direction in directions(policy)
        and selects(policy["spec"].get("podSelector"), pod.labels)
    ]
    if not applying:
        return None
    lines = [line for policy in applying for line in _accepts(world, policy, pod, direction)]
    return tuple(dict.fromkeys(lines))


def _vmap(side: str, chains: Mapping[str, str]) -> list[str]:
    if not chains:
        return []
    entries = ", ".join(f"{ip} : jump {chain}" for ip, chain in sorted(chains.items()))
    return [f"ip {side} vmap {{ {entries} }}"]


def _base(name: str, hook: str, lines: Iterable[str]) -> list[str]:
    return [
        f"chain {name} {{",
        f"type filter hook {hook} priority filter - 5; policy accept;",
        "ct state established,related accept",
        *lines,
        "}",
    ]


def rules(
    every_pod: Sequence[Pod],
    namespaces: Iterable[Object],
    policies: Iterable[Object],
    node: str,
    pod_range: str,
) -> str:
    """The input of `nft -f` that replaces this node's policy table atomically.

    `pod_range` is the range of all pods of the cluster. Refused packets get an ICMP error, so that clients
    fail at once; packets of an unknown pod address (a pod that has just started on another node) are
    dropped, so that the client's retry can succeed.
    """
    world = _World(
        every_pod,
        {n["metadata"]["name"]: n["metadata"].get("labels") or {} for n in namespaces},
    )
    ordered = sorted(policies, key=lambda p: (p["metadata"]["namespace"], p["metadata"]["name"]))
    bodies: dict[str, tuple[str, ...]] = {}
    jumps: dict[str, dict[str, str]] = {"Ingress": {}, "Egress": {}}
    for pod in every_pod:
        if pod.node != node:
            continue
        for direction, chains in jumps.items():
            accepting = _isolation(world, ordered, pod, direction)
            if accepting is None:
                continue
            digest = hashlib.sha256("\n".join(accepting).encode()).hexdigest()[:12]
            bodies[f"pods-{digest}"] = accepting
            chains[pod.ip] = f"pods-{digest}"
    lines = [f"table ip {TABLE}", f"delete table ip {TABLE}", f"table ip {TABLE} {{"]
    lines += ["set pods {", "type ipv4_addr"]
    if every_pod:
        lines.append("elements = { " + ", ".join(sorted({pod.ip for pod in every_pod})) + " }")
    lines += [
        "}",
        "chain refuse {",
        f"ip saddr {pod_range} ip saddr != @pods drop",
        f"ip daddr {pod_range} ip daddr != @pods drop",
        "reject with icmp type admin-prohibited",
        "}",
    ]
    for name, accepting in sorted(bodies.items()):
        lines += [f"chain {name} {{", *accepting, "jump refuse", "}"]
    isolated = sorted({*jumps["Ingress"], *jumps["Egress"]})
    # A pod may always reach itself through a Service.
    itself = (
        ["ip saddr . ip daddr { " + ", ".join(f"{ip} . {ip}" for ip in isolated) + " } accept"]
        if isolated
        else []
    )
    leaving = _vmap("saddr", jumps["Egress"])
    lines += _base("egress", "forward", itself + leaving)
    lines += _base("ingress", "forward", itself + _vmap("daddr", jumps["Ingress"]))
    lines += _base("to-node", "input", leaving)
    lines.append("}")
    return "\n".join(lines) + "\n"
