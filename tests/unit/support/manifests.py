"""Objects of a graph, and whether they are valid."""

import json
from collections.abc import Iterable
from typing import Any

import kubernetes_validate

from toolchain.graph import Graph
from toolchain.render import kubernetes_nodes, manifest

KUBERNETES = "1.34"


def objects(graph: Graph, kind: str | None = None) -> list[dict[str, Any]]:
    """The complete objects, secrets included."""
    bodies = [manifest(node, show_secrets=True) for node in kubernetes_nodes(graph)]
    return [body for body in bodies if kind in (None, body["kind"])]


def the(graph: Graph, kind: str) -> dict[str, Any]:
    """The only object of a kind."""
    (body,) = objects(graph, kind)
    return body


def policy(graph: Graph, name: str) -> dict[str, Any]:
    """A NetworkPolicy by the name of its resource: a workload's own, or ``<workload>-to-<reach>``."""
    return manifest(graph.one("NetworkPolicy", name), show_secrets=True)


def templates(graph: Graph) -> list[dict[str, Any]]:
    """Every pod template, also of the Jobs that are still text in a ConfigMap."""
    texts = [outputs["manifest"] for outputs in graph.outputs.values() if "manifest" in outputs]
    specs = [json.loads(text)["spec"] for text in texts]
    specs += [
        body["spec"]["jobTemplate"]["spec"] if body["kind"] == "CronJob" else body["spec"]
        for body in objects(graph)
        if body["kind"] in {"Deployment", "StatefulSet", "Job", "CronJob"}
    ]
    return [spec["template"] for spec in specs]


def assert_valid(bodies: Iterable[dict[str, Any]]) -> None:
    """Every object matches the schema of its kind, without unknown keys."""
    count = 0
    for body in bodies:
        kubernetes_validate.validate(body, KUBERNETES, strict=True)
        count += 1
    assert count, "there was nothing to check"
