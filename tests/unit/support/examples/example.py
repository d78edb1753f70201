"""What an example is, and the values that several of them take."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pulumi

import components
from components.pods.companion import Companion, Listener
from components.values.bus import BusTopology
from components.values.edges import Edge

IMAGE = "registry.example/app:1.0"


@dataclass(frozen=True, eq=False)
class Example:
    component: type[pulumi.Resource]
    token: str
    required: dict[str, Any]
    full: Callable[[], dict[str, Any]]
    meant: frozenset[str] = frozenset()
    """Hardening rules that it leaves out by design, as the checker words them."""

    @property
    def declaration(self) -> type:
        """The TypedDict of its arguments."""
        found: type = getattr(components, f"{self.component.__name__}Args")
        return found

    def make(self, name: str, args: dict[str, Any], **opts: Any) -> Any:
        constructor: Any = self.component
        return constructor(name, args, pulumi.ResourceOptions(**opts))


def companion(name: str = "proxy", port: int = 6379, address: str = "127.0.0.1") -> Companion:
    return Companion(
        name=name,
        containers=({"name": name, "image": IMAGE},),
        listeners=(Listener(port, name, address),),
        volumes=({"name": f"{name}-data", "empty_dir": {"size_limit": "16Mi"}},),
        pod_labels={f"dds/client-of-{name}": "true"},
        egress=(Edge(ports=(port,), pods={"app": name}),),
    )


def bus() -> BusTopology:
    return BusTopology(
        name="bus",
        server="bus:4222",
        port=4222,
        username="events",
        password=pulumi.Output.secret("another-swordfish"),
        client_label=("dds/client-of-bus", "true"),
        delivery_label=("dds/delivers-for-bus", "true"),
        server_labels={"app.kubernetes.io/instance": "bus"},
    )
