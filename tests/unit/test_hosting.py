"""What a cluster's owner decides arrives, in every component, at all that it is for."""

import functools
from typing import Any

import pulumi
import pytest

from dds_patterns import (
    Application,
    Hosting,
    InputError,
    ShardedRedis,
    Singleton,
    StatefulApplication,
)
from dds_patterns.arguments.declared import arguments_of
from dds_patterns.pods import hosting
from tests.unit.support.examples import EVERY, IMAGE, Example
from tests.unit.support.examples.example import HOSTING
from tests.unit.support.manifests import objects, templates, the
from toolchain.graph import Graph, build

HOSTED = {
    name: example
    for name, example in EVERY.items()
    if "hosting" in arguments_of(example.declaration)
}
PODS = {
    name: example
    for name, example in HOSTED.items()
    if "node_selector" in arguments_of(arguments_of(example.declaration)["hosting"].type)
}
every_component = pytest.mark.parametrize("example", HOSTED.values(), ids=HOSTED.keys())
whatever_has_pods = pytest.mark.parametrize("example", PODS.values(), ids=PODS.keys())
MARKS = ("labels", "annotations")


@functools.cache
def made(example: Example) -> Graph:
    return build(lambda: example.make("one", example.full()))


def application(**given: Any) -> Graph:
    args: Any = {
        "image": IMAGE,
        "replicas": 3,
        "ports": [{"name": "http", "port": 8080}],
        "hosting": given,
    }
    return build(lambda: Application("web", args))


def refused(message: str, **given: Any) -> None:
    with pytest.raises(InputError, match=message):
        application(**given)


def test_every_component_with_objects_on_the_cluster_has_it() -> None:
    without = {name for name in EVERY if name not in HOSTED}
    for name in without:
        assert not objects(made(EVERY[name])), name
    assert {arguments_of(HOSTED[name].declaration)["hosting"].type for name in HOSTED} <= {
        *hosting.KINDS
    }


@every_component
def test_all_objects_have_its_labels_and_annotations(example: Example) -> None:
    found = objects(made(example))
    for body in found:
        for mark in MARKS:
            assert HOSTING[mark].items() <= body["metadata"].get(mark, {}).items(), body["metadata"]


@whatever_has_pods
def test_pods_have_all_that_is_theirs(example: Example) -> None:
    found = templates(made(example))
    assert found
    for template in found:
        spec, metadata = template["spec"], template["metadata"]
        for mark in MARKS:
            assert HOSTING[mark].items() <= metadata[mark].items()
            assert HOSTING[f"pod_{mark}"].items() <= metadata[mark].items()
        assert spec["nodeSelector"] == HOSTING["node_selector"]
        assert spec["tolerations"] == HOSTING["tolerations"]
        assert "requiredDuringSchedulingIgnoredDuringExecution" in spec["affinity"]["nodeAffinity"]
        assert spec["priorityClassName"] == HOSTING["priority_class"]
        assert spec["runtimeClassName"] == HOSTING["runtime_class"]
        assert spec["imagePullSecrets"] == [{"name": "registry"}]


@whatever_has_pods
def test_selectors_and_claims_stay_what_they_are_without_it(example: Example) -> None:
    """They cannot be changed, so what may change must not be among them."""

    def fixed(graph: Graph) -> list[Any]:
        return [
            (
                body["kind"],
                body["spec"].get("selector"),
                [claim["metadata"] for claim in body["spec"].get("volumeClaimTemplates", [])],
            )
            for body in objects(graph)
            if body["kind"] in ("Deployment", "StatefulSet", "Service", "PodDisruptionBudget")
        ]

    def without() -> None:
        args = example.full()
        given = args["hosting"]
        kept = {key: given[key] for key in ("spread", "storage") if key in given}
        example.make("one", {**args, "hosting": kept})

    assert fixed(made(example)) == fixed(build(without))


@every_component
def test_what_has_no_effect_on_a_component_is_refused(example: Example) -> None:
    known = arguments_of(arguments_of(example.declaration)["hosting"].type)

    def program() -> None:
        for key in set(arguments_of(Hosting)) - set(known):
            with pytest.raises(InputError, match=rf"hosting\.{key} is not an argument"):
                example.make("one", {**example.full(), "hosting": {key: HOSTING[key]}})

    assert not build(program).nodes


def test_replicas_are_preferably_on_different_nodes() -> None:
    (constraint,) = templates(application())[0]["spec"]["topologySpreadConstraints"]
    assert constraint == {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "nodeTaintsPolicy": "Honor",
        "matchLabelKeys": ["pod-template-hash"],
        "labelSelector": {
            "matchLabels": the(application(), "Deployment")["spec"]["selector"]["matchLabels"]
        },
    }


def test_strictly_spread_a_node_has_room_for_one_whatever_the_number_of_nodes() -> None:
    (constraint,) = templates(application(spread={"nodes": "strict"}))[0]["spec"][
        "topologySpreadConstraints"
    ]
    assert constraint["whenUnsatisfiable"] == "DoNotSchedule"
    # More nodes than any cluster has: then the least filled one counts as empty.
    assert constraint["minDomains"] > 15_000


@pytest.mark.parametrize("where", ["nodes", "zones"])
@pytest.mark.parametrize(
    ("kind", "rule", "least"),
    [("soft", "ScheduleAnyway", None), ("even", "DoNotSchedule", None),
     ("strict", "DoNotSchedule", 100_000)],
)  # fmt: skip
def test_nodes_and_zones_are_spread_over_alike(
    where: str, kind: str, rule: str, least: int | None
) -> None:
    spread = {"nodes": "none", "zones": "none", where: kind}
    (constraint,) = templates(application(spread=spread))[0]["spec"]["topologySpreadConstraints"]
    assert constraint["topologyKey"].endswith({"nodes": "hostname", "zones": "zone"}[where])
    assert (constraint["whenUnsatisfiable"], constraint.get("minDomains")) == (rule, least)


def test_zones_count_only_where_they_are_asked_for() -> None:
    spread = {"nodes": "none", "zones": "even", "min_zones": 3}
    (constraint,) = templates(application(spread=spread))[0]["spec"]["topologySpreadConstraints"]
    assert (constraint["topologyKey"], constraint["minDomains"]) == (
        "topology.kubernetes.io/zone",
        3,
    )
    both = templates(application(spread={"zones": "soft"}))[0]["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in both] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    assert all("minDomains" not in each for each in both)
    refused(r"hosting\.spread\.min_zones is 3; must be left out: zones is 'soft'",
            spread={"zones": "soft", "min_zones": 3})  # fmt: skip


def test_revisions_of_a_stateful_set_are_not_told_apart() -> None:
    """It ends a pod before it makes another; told apart, two could stand on one node."""
    graph = build(
        lambda: StatefulApplication(
            "db", {"image": IMAGE, "replicas": 3, "hosting": {"spread": {"nodes": "strict"}}}
        )
    )
    (constraint,) = templates(graph)[0]["spec"]["topologySpreadConstraints"]
    assert "matchLabelKeys" not in constraint


@pytest.mark.parametrize(
    ("given", "rolling"),
    [
        ({}, (1, 0)),
        ({"max_surge": 3}, (3, 0)),
        ({"max_surge": 0}, (0, 1)),
        ({"max_unavailable": 2}, (0, 2)),
        ({"max_surge": 2, "max_unavailable": 1}, (2, 1)),
    ],
)
def test_a_rollout_adds_a_pod_or_takes_one_away(
    given: dict[str, int], rolling: tuple[int, int]
) -> None:
    strategy = the(application(rollout=given), "Deployment")["spec"]["strategy"]
    assert strategy == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": rolling[0], "maxUnavailable": rolling[1]},
    }


def test_a_rollout_that_could_not_begin_is_refused() -> None:
    refused("max_unavailable is 0; must be at least 1 with max_surge 0",
            rollout={"max_surge": 0, "max_unavailable": 0})  # fmt: skip
    refused("max_surge is 1; must be left out: with recreate",
            rollout={"strategy": "recreate", "max_surge": 1})  # fmt: skip


def test_a_load_balancer_is_waited_for_and_no_other_service() -> None:
    def annotations(kind: str) -> dict[str, str]:
        found: dict[str, str] = the(application(service_type=kind), "Service")["metadata"].get(
            "annotations", {}
        )
        return found

    assert "pulumi.com/skipAwait" in annotations("ClusterIP")
    assert "pulumi.com/skipAwait" in annotations("NodePort")
    assert "pulumi.com/skipAwait" not in annotations("LoadBalancer")


def test_a_way_in_from_outside_needs_a_service_that_has_one() -> None:
    refused("external_traffic_policy is 'Local'; must be left out: a Service of type ClusterIP",
            external_traffic_policy="Local")  # fmt: skip
    with pytest.raises(InputError, match="service_type is 'NodePort'; needs ports"):
        build(lambda: Application("web", {"image": IMAGE, "hosting": {"service_type": "NodePort"}}))


def test_storage_needs_a_path() -> None:
    for component in (StatefulApplication, Singleton):
        make: Any = component
        with pytest.raises(InputError, match=r"hosting\.storage is .*without a storage_path"):
            build(lambda make=make: make("db", {"image": IMAGE, "hosting": {"storage": {}}}))  # type: ignore[misc]


def test_a_label_by_which_pods_are_selected_is_refused() -> None:
    for key in ("app.kubernetes.io/instance", "pod-template-hash", "batch.kubernetes.io/job-name"):
        for argument in ("labels", "pod_labels"):
            refused(f"hosting.{argument} is .*must leave out {key}", **{argument: {key: "x"}})
    labels = the(application(labels={"app.kubernetes.io/part-of": "shop"}), "Deployment")
    assert labels["metadata"]["labels"]["app.kubernetes.io/part-of"] == "shop"


@pytest.mark.parametrize(
    ("toleration", "message"),
    [
        ({}, "must have a key"),
        ({"key": "a", "operator": "Exists", "value": "b"}, "value is 'b'; must be left out"),
        ({"key": "a", "value": "b", "tolerationSeconds": 5}, "is 5; must be left out unless"),
        ({"key": "a", "effect": "Evict"}, "must be one of NoSchedule, PreferNoSchedule, NoExecute"),
        ({"keys": "a"}, "did you mean key"),
    ],
)
def test_a_toleration_that_the_api_server_refuses_is_refused(
    toleration: dict[str, Any], message: str
) -> None:
    refused(rf"hosting\.tolerations\[0\].*{message}", tolerations=[toleration])


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"key": "disk", "operator": "In"}, "must not be empty with the operator In"),
        ({"key": "disk", "operator": "Exists", "values": ["x"]}, "must be left out with the"),
        ({"key": "cores", "operator": "Gt", "values": ["1", "2"]}, "must be one number"),
        ({"key": "disk", "operator": "Is", "values": ["x"]}, "must be one of In, NotIn"),
    ],
)
def test_an_affinity_that_the_api_server_refuses_is_refused(
    expression: dict[str, Any], message: str
) -> None:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    refused(message, affinity={
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    })  # fmt: skip


def test_an_output_may_stand_in_it() -> None:
    later = pulumi.Output.from_input
    graph = build(
        lambda: Application(
            "web",
            {
                "image": IMAGE,
                "hosting": {
                    "namespace": later("there"),
                    "labels": {"team": later("blue")},
                    "priority_class": later("urgent"),
                    "image_pull_secrets": [later("registry")],
                    "tolerations": [{"key": "a", "value": later("b")}],
                },
            },
        )
    )
    body = the(graph, "Deployment")
    assert body["metadata"]["namespace"] == "there"
    assert body["metadata"]["labels"]["team"] == "blue"
    spec = body["spec"]["template"]["spec"]
    assert spec["priorityClassName"] == "urgent"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["tolerations"] == [{"key": "a", "value": "b"}]


@pytest.mark.parametrize("later", [False, True], ids=["plain", "an Output"])
def test_less_memory_than_a_component_needs_is_refused(later: bool) -> None:
    def program() -> None:
        memory: Any = pulumi.Output.from_input("32Mi") if later else "32Mi"
        resources: Any = {"limits": {"memory": memory}}
        ShardedRedis("cart", {"image": IMAGE, "hosting": {"resources": resources}})

    with pytest.raises(
        InputError, match=r"hosting\.resources\.limits\.memory is '32Mi'; must be at least 128Mi"
    ):
        build(program)
