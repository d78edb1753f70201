"""Pod networking: this node's pod range, routes to other nodes, and masquerading."""

import ipaddress
import json
import threading
from collections.abc import Iterable
from pathlib import Path

from toolchain.node.program import background, host
from toolchain.node.program.api import Api, Informer, Object
from toolchain.node.program.config import POD_RANGE, SERVICE_RANGE
from toolchain.node.program.host import feed, run, write
from toolchain.node.program.supervisor import say
from toolchain.node.program.waiting import until

CONFLIST = Path("/etc/cni/net.d/10-pods.conflist")
# The protocol of routes that are created here, so that only these are deleted.
PROTOCOL = "77"
REPAIR_SECONDS = 30.0
_RULES = f"""\
table ip node-network
delete table ip node-network
table ip node-network {{
  chain leaving {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {POD_RANGE} ip daddr != {POD_RANGE} masquerade
  }}
  chain local {{
    type filter hook output priority filter; policy accept;
    ip daddr {SERVICE_RANGE} reject
  }}
  chain forwarded {{
    type filter hook forward priority filter; policy accept;
    ip daddr {SERVICE_RANGE} reject
  }}
}}
"""


def keep_inside() -> None:
    """Rules and a route that must exist before the first packet.

    Packets to a Service or pod that does not exist (yet) are refused on the node. Otherwise they would
    leave by the default route, and an external host could accept the connection.
    """
    feed(_RULES, "nft", "-f", "-")
    run("ip", "route", "replace", "unreachable", POD_RANGE)


def conflist(pod_range: str, mtu: int) -> str:
    """The CNI configuration of a node.

    Each pod has a routed link of its own instead of a shared bridge: so traffic between two pods of a
    node passes the forward hook, where NetworkPolicies are enforced, without br_netfilter.
    """
    plugins: list[dict[str, object]] = [
        {
            "type": "ptp",
            "mtu": mtu,
            # Traffic between pods is not masqueraded, also across nodes; see the rule above.
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                # /run is empty after a restart, as are the pods.
                "dataDir": "/run/cni-ipam",
                "ranges": [[{"subnet": pod_range}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "node-policy"},
    ]
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}, indent=1) + "\n"


def internal_ip(node: Object) -> str:
    """A node's InternalIP (IPv4), or an empty text."""
    for entry in node.get("status", {}).get("addresses", []):
        if entry["type"] == "InternalIP":
            try:
                return str(ipaddress.IPv4Address(entry["address"]))
            except ValueError:
                continue
    return ""


def wanted_routes(nodes: Iterable[Object], own_name: str, own_ip: str) -> dict[str, str]:
    """Pod range -> address of its node, for every node but this one."""
    routes = {}
    for node in nodes:
        pod_range = node.get("spec", {}).get("podCIDR", "")
        gateway = internal_ip(node)
        if node["metadata"]["name"] != own_name and pod_range and gateway not in ("", own_ip):
            routes[pod_range] = gateway
    return routes


def set_routes(wanted: dict[str, str]) -> None:
    """Adds and deletes routes to pod ranges, so that they are those wanted."""
    listed = json.loads(run("ip", "-4", "-j", "route", "show", "proto", PROTOCOL) or "[]")
    present = {route["dst"]: route.get("gateway", "") for route in listed}
    for pod_range in present.keys() - wanted.keys():
        run("ip", "route", "del", pod_range, "proto", PROTOCOL, check=False)
        say(f"route to {pod_range}: removed")
    for pod_range, gateway in wanted.items():
        if present.get(pod_range) != gateway:
            run("ip", "route", "replace", pod_range, "via", gateway, "proto", PROTOCOL)
            say(f"route to {pod_range}: via {gateway}")


class Network:
    """Configures this node's pod network, in a thread of its own."""

    def __init__(self, api: Api, name: str, node_ip: str, stop: threading.Event) -> None:
        self._name = name
        self._ip = node_ip
        self._stop = stop
        self._changed = threading.Event()
        self._pod_range = ""
        self.nodes = Informer(api, "/api/v1/nodes", stop, self._changed.set)
        background.start("network", stop, self._run)

    def _run(self) -> None:
        until("the list of nodes", self.nodes.complete.is_set, self._stop, timeout=float("inf"))
        while not self._stop.is_set():
            self._changed.clear()
            self._configure()
            set_routes(wanted_routes(self.nodes.objects(), self._name, self._ip))
            # Repairs routes and rules that another program has deleted.
            if not self._changed.wait(REPAIR_SECONDS):
                keep_inside()

    def _configure(self) -> None:
        own = self.nodes.get("", self._name)
        pod_range = (own or {}).get("spec", {}).get("podCIDR", "")
        if pod_range and pod_range != self._pod_range:
            write(CONFLIST, conflist(pod_range, host.mtu(self._ip)))
            self._pod_range = pod_range
            say(f"pod network: {pod_range}")
