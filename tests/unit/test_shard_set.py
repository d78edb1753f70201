"""ShardSet: ranks, which shard a pod belongs to, what an update and a drain leave of each shard."""

from collections.abc import Iterator
from typing import Any

import pulumi
import pytest

from dds_patterns import Application, ShardSet, StatefulApplication
from dds_patterns.pods.companion import Companion, Listener
from dds_patterns.sharding import plan
from dds_patterns.values.reach import Credentials
from dds_patterns.values.topology import Topology
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, policy, templates
from tests.unit.support.refusals import refused
from toolchain.graph import Graph, build

IMAGE = "registry.example/leaf:1.0"
HTTP = {"name": "http", "port": 8080, "app_protocol": "http"}
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
INDEX = "apps.kubernetes.io/pod-index"
SET = "dds/shards-of"


def shard_set(name: str = "leaves", **args: Any) -> ShardSet:
    given: Any = {"image": IMAGE, "ports": [HTTP], **args}
    return ShardSet(name, given)


def made(preview: bool = False, **args: Any) -> tuple[ShardSet, Graph]:
    """A set. An argument that is an Output is given as a function that makes it."""
    found: list[ShardSet] = []

    def program() -> None:
        found.append(shard_set(**{k: v() if callable(v) else v for k, v in args.items()}))

    graph = build(program, preview=preview)
    return found[0], graph


def sets(graph: Graph) -> dict[str, Any]:
    """The StatefulSets by name."""
    return {body["metadata"]["name"]: body["spec"] for body in objects(graph, "StatefulSet")}


def pods(graph: Graph) -> Iterator[tuple[str, int, dict[str, str]]]:
    """Name, number and labels of each pod, as the StatefulSets' controller makes them."""
    for name, spec in sets(graph).items():
        for number in range(spec["replicas"]):
            pod = f"{name}-{number}"
            own = {INDEX: str(number), "statefulset.kubernetes.io/pod-name": pod}
            yield pod, number, {**spec["template"]["metadata"]["labels"], **own}


def selected(graph: Graph, selector: dict[str, str]) -> set[str]:
    assert selector
    return {pod for pod, _, labels in pods(graph) if selector.items() <= labels.items()}


def services(graph: Graph) -> dict[str, Any]:
    return {body["metadata"]["name"]: body["spec"] for body in objects(graph, "Service")}


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("shards", [1, 4])
def test_objects_are_valid_and_hardened(shards: int, replicas: int, preview: bool) -> None:
    _, graph = made(preview, shards=shards, replicas=replicas, storage_path="/data")
    if not preview:
        assert_valid(objects(graph))
    assert [violations(template) for template in templates(graph)] == [[]] * replicas


def test_each_rank_has_a_pod_of_every_shard_and_no_pod_of_another() -> None:
    found, graph = made(shards=4, replicas=3)
    assert list(sets(graph)) == ["leaves", "leaves-r1", "leaves-r2"]
    assert [spec["replicas"] for spec in sets(graph).values()] == [4, 4, 4]
    for name, spec in sets(graph).items():
        own = {f"{name}-{number}" for number in range(4)}
        assert selected(graph, spec["selector"]["matchLabels"]) == own
        assert selected(graph, services(graph)[name]["selector"]) == own
    assert len(selected(graph, found.labels)) == 12
    for spec, application in zip(sets(graph).values(), found.applications, strict=True):
        assert application.labels == spec["selector"]["matchLabels"]
    # One program, told apart by its rank only.
    containers = [template["spec"]["containers"] for template in templates(graph)]
    assert all(each == containers[0] for each in containers)


@pytest.mark.parametrize("replicas", [1, 2])
def test_behind_the_address_of_a_shard_are_its_replicas_and_no_others(replicas: int) -> None:
    _, graph = made(shards=12, replicas=replicas)
    names = ["leaves", "leaves-r1"][:replicas]
    for shard in range(12):
        spec = services(graph)[f"leaves-{shard}"]
        assert selected(graph, spec["selector"]) == {f"{name}-{shard}" for name in names}
        assert "clusterIP" not in spec
        # Only while they are ready.
        assert "publishNotReadyAddresses" not in spec
        (port,) = spec["ports"]
        assert port == {
            "name": "http",
            "port": 8080,
            "targetPort": 8080,
            "protocol": "TCP",
            "appProtocol": "http",
        }
    assert set(services(graph)) == {*names, *(f"leaves-{shard}" for shard in range(12))}


@pytest.mark.parametrize("preview", MODES)
def test_ranks_are_updated_one_after_the_other(preview: bool) -> None:
    _, graph = made(preview, replicas=3)
    first, second, third = (graph.one("StatefulSet", f"leaves{r}") for r in ("", "-r1", "-r2"))
    assert first.urn in second.dependencies
    assert second.urn in third.dependencies
    assert not {second.urn, third.urn} & set(first.dependencies)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_drain_takes_one_replica_of_a_shard_at_a_time(shards: int) -> None:
    _, graph = made(shards=shards, replicas=2)
    budgets = [body["spec"] for body in objects(graph, "PodDisruptionBudget")]
    assert [budget["maxUnavailable"] for budget in budgets] == [1] * shards
    chosen = [selected(graph, budget["selector"]["matchLabels"]) for budget in budgets]
    # A pod of which two budgets speak is not evicted at all.
    assert chosen == [{f"leaves-{shard}", f"leaves-r1-{shard}"} for shard in range(shards)]


def test_without_replicas_the_budget_is_that_of_all_shards() -> None:
    (budget,) = objects(made(shards=3)[1], "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["metadata"]["name"].startswith("leaves-")
    assert len(selected(made(shards=3)[1], budget["spec"]["selector"]["matchLabels"])) == 3
    assert not objects(made(shards=1)[1], "PodDisruptionBudget")


@pytest.mark.parametrize(
    ("kind", "rule", "least"),
    [
        ("soft", "ScheduleAnyway", None),
        ("even", "DoNotSchedule", None),
        ("strict", "DoNotSchedule", 100_000),
    ],
)
@pytest.mark.parametrize("shards", [1, 3])
def test_replicas_of_a_shard_are_kept_apart_and_not_from_other_shards(
    kind: str, rule: str, least: int | None, shards: int
) -> None:
    _, graph = made(shards=shards, replicas=2, hosting={"spread": {"nodes": kind}})
    for template in templates(graph):
        (constraint,) = template["spec"]["topologySpreadConstraints"]
        assert len(selected(graph, constraint["labelSelector"]["matchLabels"])) == 2 * shards
        assert constraint["matchLabelKeys"] == [INDEX]
        assert constraint["topologyKey"] == "kubernetes.io/hostname"
        assert (constraint["whenUnsatisfiable"], constraint.get("minDomains")) == (rule, least)


def test_replicas_are_kept_apart_over_zones_as_well_and_not_at_all() -> None:
    spread = {"nodes": "none", "zones": "even", "min_zones": 2}
    _, graph = made(replicas=2, hosting={"spread": spread})
    (constraint,) = templates(graph)[0]["spec"]["topologySpreadConstraints"]
    assert (constraint["topologyKey"], constraint["minDomains"]) == (
        "topology.kubernetes.io/zone",
        2,
    )
    assert constraint["matchLabelKeys"] == [INDEX]
    _, graph = made(replicas=2, hosting={"spread": {"nodes": "none"}})
    assert "topologySpreadConstraints" not in templates(graph)[0]["spec"]


def test_without_replicas_the_shards_are_kept_apart() -> None:
    _, graph = made(shards=3)
    (constraint,) = templates(graph)[0]["spec"]["topologySpreadConstraints"]
    assert "matchLabelKeys" not in constraint
    assert (
        constraint["labelSelector"]["matchLabels"]
        == sets(graph)["leaves"]["selector"]["matchLabels"]
    )
    assert "topologySpreadConstraints" not in templates(made(shards=1)[1])[0]["spec"]


def test_a_pod_is_told_its_shard_where_it_asks_for_it() -> None:
    _, graph = made(replicas=2, shard_variable="SHARD", env={"MODE": "leaf"})
    for template in templates(graph):
        assert template["spec"]["containers"][0]["env"] == [
            {"name": "MODE", "value": "leaf"},
            {
                "name": "SHARD",
                "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}},
            },
        ]
    assert "env" not in templates(made()[1])[0]["spec"]["containers"][0]


@pytest.mark.parametrize("args", [{}, {"replicas": 2}, {"shard_variable": "SHARD"}], ids=str)
def test_another_number_of_shards_rolls_no_pod(args: dict[str, Any]) -> None:
    three, four = (made(shards=count, **args)[1] for count in (3, 4))
    assert templates(three) == templates(four)
    assert made(shards=3)[0].plan.names == made(shards=4)[0].plan.names[:3]


def test_a_third_replica_rolls_no_pod() -> None:
    two, three = (templates(made(replicas=count)[1]) for count in (2, 3))
    for before, after in zip(two, three, strict=False):
        assert before["spec"] == after["spec"]
        assert before["metadata"] == after["metadata"]


def test_the_claims_are_those_of_the_ranks() -> None:
    _, graph = made(shards=2, replicas=2, storage_path="/data")
    names = {body["metadata"]["name"] for body in objects(graph, "PersistentVolumeClaim")}
    assert names == {"data-leaves-0", "data-leaves-1", "data-leaves-r1-0", "data-leaves-r1-1"}


# Reach


@pytest.mark.parametrize("preview", MODES)
def test_the_reach_has_an_endpoint_a_shard_and_is_ready_when_all_ranks_are(preview: bool) -> None:
    def program() -> None:
        leaves = shard_set(
            shards=2, replicas=2, hash="md5", hash_tag="{}", hosting={"namespace": "data"}
        )
        assert leaves.reach.topology == Topology(plan(2).names, "md5", "{}")
        assert leaves.plan == plan(2, "md5")
        assert (leaves.reach.app_protocol, leaves.reach.ports) == ("http", (8080,))
        assert leaves.reach.credentials is None
        pulumi.export("at", leaves.reach.endpoints)
        Application("web", {"image": IMAGE, "reaches": [leaves.reach]})

    graph = build(program, preview=preview)
    assert graph.outputs[""]["at"] == ["leaves-0.data.svc:8080", "leaves-1.data.svc:8080"]
    needed = [*graph.all("StatefulSet"), *(graph.one("Service", f"leaves-{i}") for i in (0, 1))]
    assert {node.urn for node in needed} <= set(graph.one("Deployment", "web").dependencies)
    there = policy(graph, "web-to-leaves")
    assert there["metadata"]["namespace"] == "data"
    assert len(selected(graph, there["spec"]["podSelector"]["matchLabels"])) == 4


def test_the_reach_has_the_credentials_that_are_given() -> None:
    found, _ = made(credentials=lambda: Credentials("swordfish-long-enough", "client"))
    assert found.reach.credentials is not None
    assert found.shards[1].credentials is found.reach.credentials


def test_one_shard_is_reached_alone() -> None:
    def program() -> None:
        leaves = shard_set(shards=3, replicas=2)
        pulumi.export("at", leaves.shards[2].endpoints)
        assert leaves.shards[2].topology is None
        reaches = [leaves.shards[2], leaves.shards[0]]
        Application("web", {"image": IMAGE, "reaches": reaches})

    graph = build(program)
    (endpoint,) = graph.outputs[""]["at"]
    assert endpoint.startswith("leaves-2.")
    for shard in (0, 2):
        there = policy(graph, f"web-to-leaves-{shard}")["spec"]["podSelector"]["matchLabels"]
        assert selected(graph, there) == {f"leaves-{shard}", f"leaves-r1-{shard}"}


def test_the_port_may_be_another_one_and_a_companions() -> None:
    grpc = {"name": "grpc", "port": 9000, "app_protocol": "https"}
    found, graph = made(ports=[HTTP, grpc], port="grpc")
    assert (found.reach.app_protocol, found.reach.ports) == ("https", (9000,))
    (port,) = services(graph)["leaves-0"]["ports"]
    assert (port["name"], port["port"]) == ("grpc", 9000)
    tls = Companion("tls", ({"name": "tls", "image": IMAGE},), (Listener(8443, "tls"),))
    local = {"name": "plain", "port": 8080, "address": "127.0.0.1"}
    found, graph = made(ports=[local], companions=[tls], expose=["tls"], port="tls")
    assert found.reach.ports == (8443,)
    (port,) = services(graph)["leaves-0"]["ports"]
    assert (port["name"], port["targetPort"]) == ("tls", 8443)


def test_a_datagram_port_is_one_at_the_address_too() -> None:
    found, graph = made(
        ports=[{"name": "dns", "port": 5353, "protocol": "UDP"}],
        readiness={"command": ["/bin/ready"]},
    )
    assert found.reach.protocol == "UDP"
    assert services(graph)["leaves-0"]["ports"][0]["protocol"] == "UDP"


# What is refused


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"ports": []}, "ports is []; must have one that clients can reach"),
        (
            {"ports": [{**HTTP, "address": "127.0.0.1"}]},
            "ports is [{'name': 'http',",
        ),
        ({"port": "htp"}, "port is 'htp'; did you mean http? known are http"),
        ({"port": "http", "expose": []}, "must have one that clients can reach"),
        ({"shards": 0}, "shards is 0; must be from 1 to 64"),
        ({"shards": 65}, "shards is 65; must be from 1 to 64"),
        ({"replicas": 0}, "replicas is 0; must be from 1 to 9"),
        ({"replicas": 10}, "replicas is 10; must be from 1 to 9"),
        ({"replicas": lambda: pulumi.Output.from_input(2)}, "must be a plain value"),
        ({"hash": "sha"}, "hash is 'sha'; must be one of"),
        ({"hash_tag": "{"}, "must be two printable characters"),
        ({"shard_variable": "1A"}, "shard_variable is '1A'; must be the name of a variable"),
        (
            {"shard_variable": "SHARD", "env": {"SHARD": "0"}},
            "shard_variable is 'SHARD'; must not be set in env as well",
        ),
        ({"credentials": "swordfish"}, "must be a Credentials"),
        ({"hosting": {"pod_labels": {SET: "others"}}}, f"must leave out {SET}"),
        ({"hosting": {"labels": {INDEX: "0"}}}, f"must leave out {INDEX}"),
        ({"hosting": {"storage": {}}}, "must be left out without a storage_path"),
        ({"hosting": {"service_type": "NodePort"}}, "hosting.service_type is not an argument"),
        ({"autoscaled": True}, "autoscaled is not an argument"),
    ],
)
def test_bad_input_is_refused(args: dict[str, Any], said: str) -> None:
    def make() -> object:
        return shard_set(**{k: v() if callable(v) else v for k, v in args.items()})

    assert said in (found := refused(make))
    assert found.startswith('ShardSet "leaves": ')


@pytest.mark.parametrize(
    ("name", "replicas"),
    [("Leaves", 1), ("1leaves", 1), ("leaves-0", 1), ("leaves-r1", 1), ("l" * 53, 1),
     ("l" * 50, 2), ("", 2), ("leaves-r1", 2)],
)  # fmt: skip
def test_a_bad_name_is_refused(name: str, replicas: int) -> None:
    assert "name is" in refused(lambda: shard_set(name, replicas=replicas))


def test_the_longest_names_are_fine() -> None:
    def program() -> None:
        shard_set("l" * 49, replicas=9, shards=1)
        shard_set("m" * 52, shards=64)

    graph = build(program)
    assert_valid(objects(graph))
    assert max(map(len, sets(graph))) == 52


@pytest.mark.parametrize("name", ["leaves-r1", "leaves-0"])
def test_what_a_rank_is_called_nothing_else_is(name: str) -> None:
    said = refused(lambda: StatefulApplication(name, {"image": IMAGE}))
    assert "must not end like -0 or -r1" in said


def test_two_sets_stand_side_by_side() -> None:
    def program() -> None:
        shard_set("one", replicas=2)
        shard_set("two", replicas=2)

    graph = build(program)
    assert_valid(objects(graph))
    assert len(selected(graph, {SET: "one"})) == 6
