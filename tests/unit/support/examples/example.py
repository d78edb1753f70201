"""The type of an example, and values that several of them use."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pulumi

import dds_patterns
from dds_patterns.arguments.declared import arguments_of
from dds_patterns.platform.certificates import AuthorityProvider
from dds_patterns.pods.companion import Companion, Listener
from dds_patterns.values.issuer import Issuer
from dds_patterns.values.reach import Credentials, Reach

IMAGE = "registry.example/app:1.0"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


HOSTING: dict[str, Any] = {
    "namespace": "here",
    "labels": {"team": "green"},
    "annotations": {"example.com/owner": "green"},
    "images": {"redis": "registry.example/redis:1.0", "web": "registry.example/web:1.0"},
    "resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "64Mi"}},
    "pod_labels": {"colour": "green"},
    "pod_annotations": {"note": "x"},
    "node_selector": {"disk": "fast"},
    "tolerations": [{"key": "dedicated", "value": "green", "effect": "NoSchedule"}],
    "affinity": {
        "node_affinity": {
            "required_during_scheduling_ignored_during_execution": {
                "node_selector_terms": [
                    {"match_expressions": [{"key": "disk", "operator": "Exists"}]}
                ]
            }
        }
    },
    "priority_class": "urgent",
    "runtime_class": "sandbox",
    "image_pull_secrets": ["registry"],
    "min_ready_seconds": 5,
    "service_annotations": {"example.com/zone": "dmz"},
    "spread": {"nodes": "strict", "zones": "even", "min_zones": 2},
    "rollout": {"strategy": "rolling", "max_surge": 2, "max_unavailable": 1},
    "service_type": "LoadBalancer",
    "external_traffic_policy": "Local",
    "storage": {"size": "1Gi", "storage_class": "fast", "delete_with_workload": True},
}


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
        return declaration(self.component)

    def make(self, name: str, args: dict[str, Any], **opts: Any) -> Any:
        constructor: Any = self.component
        return constructor(name, args, pulumi.ResourceOptions(**opts))


def hosting(component: type[pulumi.Resource], **own: Any) -> dict[str, Any]:
    """The values of `hosting` that a component takes.

    :param own: the example's own values
    """
    declared = arguments_of(declaration(component))["hosting"]
    return {key: {**HOSTING, **own}[key] for key in arguments_of(declared.type)}


def declaration(component: type[pulumi.Resource]) -> type:
    """The TypedDict of its arguments."""
    found: type = getattr(dds_patterns, f"{component.__name__}Args")
    return found


def companion(name: str = "proxy", port: int = 6379, address: str = "127.0.0.1") -> Companion:
    return Companion(
        name=name,
        containers=({"name": name, "image": IMAGE},),
        listeners=(Listener(port, name, address),),
        volumes=({"name": f"{name}-data", "empty_dir": {"size_limit": "16Mi"}},),
        pod_labels={f"dds/metrics-of-{name}": "true"},
        reaches=(reach(name, port),),
    )


@functools.cache
def issuer() -> Issuer:
    """An authority that is managed elsewhere."""
    made = AuthorityProvider().create({"common_name": "shop", "validity_days": 3650}).outs or {}
    return Issuer(made["certificate"], made["key"])


def reach(name: str = "api", port: int = 8080, **more: Any) -> Reach:
    """How to reach an isolated workload, in a namespace of its own."""
    given: dict[str, Any] = {
        "endpoints": (f"{name}.there.svc:{port}",),
        "pods": {"app": name},
        "namespace": "there",
        "isolated": True,
        **more,
    }
    return Reach(name=name, **given)


def elsewhere(port: int, app_protocol: str = "tcp", path: str = "") -> Reach:
    """A server of another namespace, as a component gives it: its endpoint is known later."""
    return reach(
        "there",
        endpoints=(pulumi.Output.from_input(f"server.there.svc:{port}"),),
        pods={"app": "server"},
        ports=(port,),
        app_protocol=app_protocol,
        path=path,
        credentials=Credentials("not-for-an-adapter"),
    )


def bus() -> Reach:
    return reach(
        "bus",
        4222,
        app_protocol="nats",
        credentials=Credentials(pulumi.Output.secret("another-swordfish"), "events"),
    )
