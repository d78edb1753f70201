"""Volumes: nothing but their own arguments changes them, since a changed one replaces its StatefulSet."""

import contextlib
from collections.abc import Mapping
from typing import Any

import pytest

from components import EtcdCluster, EventBus, ShardedRedis
from components.arguments.declared import arguments_of
from components.arguments.errors import InputError
from tests.unit.support.examples import EVERY, IMAGE
from tests.unit.support.manifests import the
from toolchain.graph import Graph, build

BUS = {"image": IMAGE, "tools_image": IMAGE}
STORE = {"image": IMAGE, "role": "store"}
ETCD = {"image": IMAGE}
IMMUTABLE = ("serviceName", "selector", "podManagementPolicy", "volumeClaimTemplates")
"""What the API lets nobody change: Pulumi replaces the StatefulSet, all pods at once."""


def made(component: Any, args: Mapping[str, Any]) -> Graph:
    return build(lambda: component("one", dict(args)))


def immutable(graph: Graph) -> dict[str, Any]:
    spec = the(graph, "StatefulSet")["spec"]
    return {key: spec.get(key) for key in IMMUTABLE}


@pytest.mark.parametrize(
    ("component", "args", "changes"),
    [
        (ShardedRedis, STORE, {"memory_mb": 512}),
        (ShardedRedis, STORE, {"memory_mb": 16}),
        (EtcdCluster, ETCD, {"quota_mb": 768}),
        (EtcdCluster, ETCD, {"quota_mb": 16}),
        (EventBus, BUS, {"events_mb": 600}),
        (EventBus, BUS, {"dead_mb": 256, "records_mb": 256}),
        (EventBus, BUS, {"buckets": [{"name": "codes", "seconds": 60, "size_mb": 128}]}),
        (EventBus, BUS, {"events_mb": 1, "dead_mb": 1, "records_mb": 1}),
    ],
    ids=str,
)
def test_tuning_memory_leaves_the_volumes_alone(
    component: Any, args: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert immutable(made(component, {**args, **changes})) == immutable(made(component, args))


@pytest.mark.parametrize(
    ("component", "args", "least"),
    [
        (ShardedRedis, {**STORE, "memory_mb": 513}, 1026),
        (EtcdCluster, {**ETCD, "quota_mb": 769}, 2050),
        (EventBus, {**BUS, "events_mb": 1024}, 1408),
    ],
    ids=str,
)
def test_what_needs_more_room_says_how_much(
    component: Any, args: dict[str, Any], least: int
) -> None:
    with pytest.raises(
        InputError, match=rf"storage_size is '\dGi'; must be at least {least}Mi, .*"
    ):
        made(component, args)
    made(component, {**args, "storage_size": f"{least}Mi"})


STATEFUL = (
    "EtcdCluster",
    "EventBus",
    "Prometheus",
    "ShardedRedis",
    "Singleton",
    "StatefulApplication",
)
REPLACE = {
    "storage", "storage_size", "storage_class",
    # A store without it has no volumes.
    "persistence", "role",
    "ordered",
    # Labels that select the pods.
    "application", "component",
}  # fmt: skip
"""Arguments that replace the StatefulSet, as docs/workloads.md says."""


@pytest.mark.parametrize("name", STATEFUL)
def test_no_other_argument_replaces_the_pods_and_their_volumes(name: str) -> None:
    example = EVERY[name]
    everything = immutable(build(lambda: example.make("one", example.full())))
    changed = set()
    for key, declared in arguments_of(example.declaration).items():
        if declared.required or key in example.required:
            continue

        def program(key: str = key) -> None:
            args = {name: value for name, value in example.full().items() if name != key}
            with contextlib.suppress(InputError):
                example.make("one", args)

        graph = build(program)
        if graph.nodes and immutable(graph) != everything:
            changed.add(key)
    assert changed <= REPLACE
