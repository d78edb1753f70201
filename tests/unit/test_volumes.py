"""Volumes: they grow under their pods; nothing but their own arguments changes them."""

import contextlib
import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pulumi
import pytest

from dds_patterns import EtcdCluster, EventBus, ShardedRedis, StatefulApplication
from dds_patterns.arguments.declared import arguments_of
from dds_patterns.arguments.errors import InputError
from tests.unit.support.examples import EVERY, IMAGE
from toolchain.graph import Graph, Node, build
from toolchain.render import manifest

BUS = {"image": IMAGE, "tools_image": IMAGE}
STORE = {"image": IMAGE, "role": "store"}
ETCD = {"image": IMAGE}
IMMUTABLE = {
    "StatefulSet": ("serviceName", "selector", "podManagementPolicy", "volumeClaimTemplates"),
    "PersistentVolumeClaim": ("accessModes", "selector", "storageClassName", "volumeName"),
}
"""What the API lets nobody change: Pulumi replaces the object, of a StatefulSet all pods at once."""


def made(component: Any, args: Mapping[str, Any]) -> Graph:
    return build(lambda: component("one", dict(args)))


def immutable(node: Node, name: str = "one") -> dict[str, Any]:
    """Those parts of an object that the engine compares, with the workload's name left out of them."""
    body = copy.deepcopy(manifest(node, show_secrets=True))
    for path in node.ignore_changes:
        *steps, last = [
            int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path)
        ]
        inner: Any = body
        for step in steps:
            inner = inner[step]
        del inner[last]
    parts = {key: body["spec"].get(key) for key in IMMUTABLE[body["kind"]]}
    found: dict[str, Any] = json.loads(json.dumps(parts).replace(f'"{name}"', '"name"'))
    return found


def claims(graph: Graph) -> dict[str, Node]:
    """Those that a graph registers, by name."""
    return {node.name: node for node in graph.all("PersistentVolumeClaim")}


def requested(graph: Graph) -> dict[str, str]:
    return {
        name: node.inputs["spec"]["resources"]["requests"]["storage"]
        for name, node in claims(graph).items()
    }


@pytest.mark.parametrize(
    ("component", "args", "changes"),
    [
        (ShardedRedis, STORE, {"memory_mib": 512}),
        (ShardedRedis, STORE, {"memory_mib": 16}),
        (EtcdCluster, ETCD, {"quota_mib": 768}),
        (EtcdCluster, ETCD, {"quota_mib": 16}),
        (EventBus, BUS, {"events_mib": 600}),
        (EventBus, BUS, {"dead_mib": 256, "records_mib": 256}),
        (EventBus, BUS, {"buckets": [{"name": "codes", "ttl_seconds": 60, "size_mib": 128}]}),
        (EventBus, BUS, {"events_mib": 1, "dead_mib": 1, "records_mib": 1}),
    ],
    ids=str,
)
def test_tuning_memory_leaves_the_volumes_alone(
    component: Any, args: dict[str, Any], changes: dict[str, Any]
) -> None:
    before, after = (made(component, given) for given in (args, {**args, **changes}))
    assert immutable(after.one("StatefulSet")) == immutable(before.one("StatefulSet"))
    assert requested(after) == requested(before) != {}


@pytest.mark.parametrize(
    ("component", "args", "least"),
    [
        (ShardedRedis, {**STORE, "memory_mib": 1025}, 2050),
        (EtcdCluster, {**ETCD, "quota_mib": 769}, 2050),
        (EventBus, {**BUS, "events_mib": 2048}, 2688),
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
    "ShardSet",
    "ShardedRedis",
    "Singleton",
    "StatefulApplication",
)
REPLACE = {
    "storage_path", "hosting.storage", "hosting.storage.storage_class",
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

    found = {node.name: node for node in build(program).all("StatefulSet")}
    everything = immutable(found.pop("everything"), "everything")
    changed = {
        left_out[name] for name, node in found.items() if immutable(node, name) != everything
    }
    assert len(found) > len(left_out) / 2
    assert changed <= REPLACE


# Growing

Variant = Callable[..., Graph]


@pytest.fixture(params=STATEFUL)
def variant(request: pytest.FixtureRequest) -> Variant:
    """Builds one of the components, with other keys of its ``hosting``."""
    example = EVERY[request.param]

    def variant_of(**changes: Any) -> Graph:
        def program() -> None:
            args = example.full()
            storage = {**args["hosting"]["storage"], **changes.pop("storage", {})}
            hosting = {**args["hosting"], **changes, "storage": storage}
            example.make("one", {**args, "hosting": hosting})

        return build(program)

    return variant_of


def pods_and_set(graph: Graph) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """What a StatefulSet must keep so that its pods stay."""
    node = graph.one("StatefulSet")
    return immutable(node), node.inputs["spec"]["template"]


def test_another_size_changes_the_claims_and_nothing_else(variant: Variant) -> None:
    before, after = variant(storage={"size": "10Gi"}), variant(storage={"size": "12Gi"})
    replicas = before.one("StatefulSet").inputs["spec"]["replicas"]
    names = {f"data-one-{ordinal}" for ordinal in range(replicas)}
    assert requested(before) == dict.fromkeys(names, "10Gi")
    assert requested(after) == dict.fromkeys(names, "12Gi")
    assert pods_and_set(after) == pods_and_set(before)
    kept = {urn: node for urn, node in before.nodes.items() if node.name not in names}
    for urn, node in kept.items():
        if node.type.endswith(":StatefulSet"):
            continue
        assert after.nodes[urn].inputs == node.inputs, urn
    for name, claim in claims(before).items():
        assert immutable(claims(after)[name]) == immutable(claim)


def test_another_class_is_seen_as_a_replacement(variant: Variant) -> None:
    before, after = variant(), variant(storage={"storage_class": "slow"})
    assert immutable(after.one("StatefulSet")) != immutable(before.one("StatefulSet"))
    for name, claim in claims(before).items():
        assert immutable(claims(after)[name]) != immutable(claim)


def test_other_labels_and_annotations_reach_the_claims_and_replace_nothing(
    variant: Variant,
) -> None:
    before = variant()
    after = variant(labels={"team": "blue"}, annotations={"note": "y"})
    assert immutable(after.one("StatefulSet")) == immutable(before.one("StatefulSet"))
    for name, claim in claims(before).items():
        found = claims(after)[name]
        assert found.inputs["metadata"]["labels"]["team"] == "blue"
        assert found.inputs["metadata"]["annotations"]["note"] == "y"
        assert immutable(found) == immutable(claim)


def test_claims_are_there_before_their_pods_and_stay_after_them(variant: Variant) -> None:
    graph = variant()
    stateful_set = graph.one("StatefulSet")
    assert claims(graph)
    for claim in claims(graph).values():
        assert claim.urn in stateful_set.dependencies
        assert claim.retain_on_delete
        annotations = claim.inputs["metadata"]["annotations"]
        # It is bound where the pod is, which comes later.
        assert annotations["pulumi.com/skipAwait"] == "true"
        # Another may have made it.
        assert annotations["pulumi.com/patchForce"] == "true"


def test_the_claims_are_those_that_the_stateful_set_would_make(variant: Variant) -> None:
    graph = variant()
    stateful_set = graph.one("StatefulSet").inputs
    (template,) = stateful_set["spec"]["volumeClaimTemplates"]
    for name, claim in claims(graph).items():
        inputs = claim.inputs
        assert re.fullmatch(rf"{template['metadata']['name']}-one-\d+", name)
        assert inputs["metadata"]["name"] == name
        assert inputs["metadata"]["namespace"] == stateful_set["metadata"]["namespace"]
        assert inputs["spec"] == template["spec"]


KEPT: dict[str, Any] = {"image": IMAGE, "storage_path": "/data"}


def test_fewer_replicas_keep_the_data_of_those_that_go() -> None:
    three, two = (made(StatefulApplication, {**KEPT, "replicas": count}) for count in (3, 2))
    assert set(claims(three)) - set(claims(two)) == {"data-one-2"}
    assert claims(three)["data-one-2"].retain_on_delete
    assert immutable(two.one("StatefulSet")) == immutable(three.one("StatefulSet"))
    policy = two.one("StatefulSet").inputs["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy["whenScaled"] == "Retain"


def test_as_many_claims_as_an_output_says_are_left_to_the_stateful_set() -> None:
    def graph(size: str) -> Graph:
        return build(
            lambda: StatefulApplication(
                "one",
                {
                    **KEPT,  # type: ignore[typeddict-item]
                    "replicas": pulumi.Output.from_input(2),
                    "hosting": {"storage": {"size": size}},
                },
            )
        )

    before, after = graph("1Gi"), graph("2Gi")
    assert not claims(before)
    assert not before.one("StatefulSet").ignore_changes
    # Nothing else would show that the size is another one.
    assert immutable(after.one("StatefulSet")) != immutable(before.one("StatefulSet"))


def test_without_volumes_nothing_is_ignored() -> None:
    graph = made(StatefulApplication, {"image": IMAGE})
    assert not claims(graph)
    assert not graph.one("StatefulSet").ignore_changes


def test_a_size_that_is_known_later_is_that_of_the_claims() -> None:
    def program() -> None:
        size = pulumi.Output.from_input("3Gi")
        StatefulApplication("one", {**KEPT, "hosting": {"storage": {"size": size}}})  # type: ignore[typeddict-item]

    assert requested(build(program)) == {"data-one-0": "3Gi"}


@pytest.mark.parametrize("size", ["1Mi", "64", "", "two", -1, True, []])
def test_what_is_no_size_is_refused_before_anything_is_registered(size: Any) -> None:
    def program() -> None:
        with pytest.raises(InputError, match=r"hosting\.storage\.size is .*; must be "):
            StatefulApplication("one", {**KEPT, "hosting": {"storage": {"size": size}}})  # type: ignore[typeddict-item]

    assert not build(program).nodes
