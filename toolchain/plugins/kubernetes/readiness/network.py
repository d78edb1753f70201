"""Services: until they have an endpoint that serves, and an address if they are to get one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolchain.plugins.kubernetes import kinds
from toolchain.plugins.kubernetes.readiness.rule import Object, Rule
from toolchain.plugins.kubernetes.wait import DONE, Objects, Source, Verdict, pending

if TYPE_CHECKING:
    from toolchain.plugins.kubernetes.client import Client
    from toolchain.plugins.kubernetes.failure import Findings

_SECONDS = 600.0


def _needs_endpoints(thing: Object) -> bool:
    spec = thing["spec"]
    return (
        bool(spec.get("selector"))
        and spec.get("type") != "ExternalName"
        and spec.get("clusterIP") != "None"
    )


def _applies(client: Client, thing: Object) -> bool:  # noqa: ARG001
    return _needs_endpoints(thing) or thing["spec"].get("type") == "LoadBalancer"


def _sources(thing: Object) -> Sequence[Source]:
    if not _needs_endpoints(thing):
        return ()
    slices = kinds.get("discovery.k8s.io/v1", "EndpointSlice")
    metadata = thing["metadata"]
    labels = {"kubernetes.io/service-name": metadata["name"]}
    return (Source.labelled(slices.collection(metadata["namespace"]), labels),)


def _service(thing: Object, others: Sequence[Objects]) -> Verdict:
    spec = thing["spec"]
    balancer = (thing.get("status") or {}).get("loadBalancer") or {}
    if spec.get("type") == "LoadBalancer" and not balancer.get("ingress"):
        return pending("no load balancer has given it an address")
    if not _needs_endpoints(thing):
        return DONE
    endpoints = [
        endpoint
        for view in others
        for one in view.values()
        for endpoint in one.get("endpoints") or ()
    ]
    if any((one.get("conditions") or {}).get("ready", True) for one in endpoints):
        return DONE
    labels = ",".join(f"{key}={value}" for key, value in sorted(spec["selector"].items()))
    if endpoints:
        return pending(f"none of the {len(endpoints)} pods with {labels} is ready")
    return pending(f"no pod with {labels} is ready; do the labels match?")


def _reasons(findings: Findings, thing: Object, others: Sequence[Objects]) -> list[str]:  # noqa: ARG001
    selector = thing["spec"].get("selector") or {}
    pods = findings.labelled("v1", "Pod", selector) if selector else []
    return [*findings.pods(pods), *findings.events(thing)]


SERVICE = Rule(_service, _SECONDS, _sources, _reasons, _applies)
