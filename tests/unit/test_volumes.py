"""Volumes: nothing but their own arguments changes them, since a changed one replaces its StatefulSet."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from components import EtcdCluster, EventBus, ShardedRedis
from components.arguments.declared import arguments_of
from components.arguments.errors import InputError
from tests.unit.support.examples import EVERY, IMAGE
from tests.unit.support.manifests import objects, the
from toolchain.graph import Graph, build

BUS = {"image": IMAGE, "tools_image": IMAGE}
STORE = {"image": IMAGE, "role": "store"}
ETCD = {"image": IMAGE}
IMMUTABLE = ("serviceName", "selector", "podManagementPolicy", "volumeClaimTemplates")
"""What the API lets nobody change: Pulumi replaces the StatefulSet, all pods at once."""


def made(component: Any, args: Mapping[str, Any]) -> Graph:
    return build(lambda: component("one", dict(args)))


def immutable(body: dict[str, Any], name: str = "one") -> dict[str, Any]:
    """Those parts of a StatefulSet, with its name left out of them."""
    parts = {key: body["spec"].get(key) for key in IMMUTABLE}
    found: dict[str, Any] = json.loads(json.dumps(parts).replace(f'"{name}"', '"name"'))
    return found


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
    before, after = (
        the(made(component, given), "StatefulSet") for given in (args, {**args, **changes})
    )
    assert immutable(after) == immutable(before)


@pytest.mark.parametrize(
    ("component", "args", "least"),
    [
        (ShardedRedis, {**STORE, "memory_mb": 1025}, 2050),
        (EtcdCluster, {**ETCD, "quota_mb": 769}, 2050),
        (EventBus, {**BUS, "events_mb": 2048}, 2688),
    ],
    ids=str,
)
def test_what_needs_more_room_says_how_much(
    component: Any, args: dict[str, Any], least: int
) -> None:
    with pytest.raises(
        InputError, match=rf"hosting.storage.size is '\dGi'; must be at least {least}Mi, .*"
    ):
        made(component, args)
    made(component, {**args, "hosting": {"storage": {"size": f"{least}Mi"}}})


STATEFUL = (
    "EtcdCluster",
    "EventBus",
    "Prometheus",
    "ShardedRedis",
    "Singleton",
    "StatefulApplication",
)
REPLACE = {
    "storage_path", "hosting.storage", "hosting.storage.size", "hosting.storage.storage_class",
    # A store without it has no volumes.
    "persistence", "role",
    "ordered",
    # Labels that select the pods.
    "application", "component",
}  # fmt: skip
"""Arguments that replace the StatefulSet, as docs/workloads.md says."""


def each_left_out(
    declaration: type, args: dict[str, Any], path: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    """All arguments but an optional one, and where that would stand."""
    for key, declared in arguments_of(declaration).items():
        if key not in args:
            continue
        if not declared.required and key != "hosting":
            yield f"{path}{key}", {name: value for name, value in args.items() if name != key}
        if declared.form == "arguments" and key in ("hosting", "storage"):
            for below, nested in each_left_out(declared.type, args[key], f"{path}{key}."):
                yield below, {**args, key: nested}


@pytest.mark.parametrize("name", STATEFUL)
def test_no_other_argument_replaces_the_pods_and_their_volumes(name: str) -> None:
    example = EVERY[name]
    left_out: dict[str, str] = {}

    def program() -> None:
        example.make("everything", example.full())
        for path, args in each_left_out(example.declaration, example.full()):
            name = f"without-{path.replace('.', '-').replace('_', '-')}"
            if path in example.required:
                continue
            left_out[name] = path
            # Some cannot be without another one.
            with contextlib.suppress(InputError):
                example.make(name, args)

    found = {body["metadata"]["name"]: body for body in objects(build(program), "StatefulSet")}
    everything = immutable(found.pop("everything"), "everything")
    changed = {
        left_out[name] for name, body in found.items() if immutable(body, name) != everything
    }
    assert len(found) > len(left_out) / 2
    assert changed <= REPLACE
