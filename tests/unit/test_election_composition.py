"""The composition ``election``."""

import json
from typing import Any

import pytest

from dds_patterns.arguments.errors import InputError
from stacks import deploy
from stacks.settings import Settings
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates
from toolchain.graph import Graph, Secret, build

CLUSTER = {"kubeconfig": Secret("kubeconfig-of-the-cluster"), "registry": "localhost:5000"}
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
VARIANTS: list[dict[str, str]] = [
    {},
    {"dds:backend": "lease"},
    {"dds:fenced": "false", "dds:ttl_seconds": "2"},
    {"dds:members": "1"},
]


def made(config: dict[str, str] | None = None, *, preview: bool = False) -> Graph:
    return build(
        lambda: deploy(Settings.load()),
        preview=preview,
        stack="election",
        config=config,
        references={"organization/dds/cluster": CLUSTER},
    )


def pod_of(graph: Graph, kind: str, name: str) -> dict[str, Any]:
    (found,) = [
        body
        for body in objects(graph, kind)
        if body["metadata"]["labels"]["app.kubernetes.io/instance"] == name
    ]
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def environment(pod: dict[str, Any]) -> dict[str, str]:
    (container,) = pod["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


@pytest.mark.parametrize("config", VARIANTS, ids=str)
@pytest.mark.parametrize("preview", MODES)
def test_everything_is_valid_hardened_and_in_the_namespace(
    config: dict[str, str], preview: bool
) -> None:
    graph = made(config, preview=preview)
    bodies = objects(graph)
    assert len(bodies) > 10
    if preview:
        return
    assert_valid(bodies)
    assert {body["metadata"]["namespace"] for body in bodies if body["kind"] != "Namespace"} == {
        "election"
    }
    for template in templates(graph):
        job = template["spec"]["restartPolicy"] != "Always"
        # Members and singletons have no pod to hand clients over to; the ticker has no clients.
        allowed = {f"{name}: no drain" for name in ("etcd", "fenced-store", "ticker")}
        found = violations(template, restarts=not job, init_containers=("prepare",))
        assert set(found) <= allowed


def test_only_the_tickers_have_an_elector() -> None:
    graph = made()
    ticker = pod_of(graph, "Deployment", "ticker")
    assert [c["name"] for c in ticker["initContainers"]] == ["elector"]
    assert ticker["shareProcessNamespace"] is True
    command = ticker["initContainers"][0]["command"]
    assert command[command.index("--worker-seconds") + 1] == "10"
    singleton = pod_of(graph, "StatefulSet", "singleton")
    assert "initContainers" not in singleton
    assert environment(singleton)["ELECTOR"] == ""
    assert environment(ticker)["ELECTOR"] == "127.0.0.1:4040"


def test_a_lease_needs_no_etcd() -> None:
    graph = made({"dds:backend": "lease"})
    assert graph.all("EtcdCluster") == []
    assert [node.name for node in graph.all("docker:index/image:Image")] == [
        "images-elector",
        "images-toolbox",
    ]
    assert graph.all("Lease")


def test_the_tokens_of_two_backends_are_never_compared() -> None:
    counters = {
        environment(pod_of(made({"dds:backend": backend}), "Deployment", "ticker"))["COUNTER"]
        for backend in ("etcd", "lease")
    }
    assert len(counters) == 2


@pytest.mark.parametrize("fenced", ["true", "false"])
def test_the_store_fences_unless_it_is_told_otherwise(fenced: str) -> None:
    graph = made({"dds:fenced": fenced})
    assert environment(pod_of(graph, "StatefulSet", "fenced-store"))["FENCED"] == fenced
    plan = json.loads(environment(pod_of(graph, "Job", "election-check"))["PLAN"])
    assert plan["fenced"] is (fenced == "true")
    assert plan["replicas"] == 3


def test_the_check_may_reach_the_tickers_and_the_store_and_nothing_else() -> None:
    graph = made()
    policy = graph.one("NetworkPolicy", "election-check").inputs["spec"]
    peers = [
        rule["to"][0]["podSelector"]["matchLabels"].get("app.kubernetes.io/instance")
        for rule in policy["egress"]
    ]
    assert [peer for peer in peers if peer] == ["fenced-store", "ticker"]
    assert "ingress" not in policy
    named = {
        node.name
        for node in graph.all("NetworkPolicy")
        if node.name.startswith("election-check-to-")
    }
    assert named == {"election-check-to-fenced-store", "election-check-to-ticker"}


def test_whoever_writes_is_let_in_at_the_store_and_nobody_else() -> None:
    graph = made()
    store = graph.one("NetworkPolicy", "fenced-store").inputs["spec"]
    assert "ingress" not in store
    at_the_store = {
        node.name
        for node in graph.all("NetworkPolicy")
        if node.inputs["spec"]["podSelector"] == store["podSelector"]
    }
    clients = ("ticker", "singleton", "election-check")
    assert at_the_store == {"fenced-store", *(f"{name}-to-fenced-store" for name in clients)}


@pytest.mark.parametrize("preview", MODES)
def test_the_outputs_say_what_to_try(preview: bool) -> None:
    outputs = made(preview=preview).outputs[""]
    assert outputs["backend"] == "etcd"
    assert outputs["ttl_seconds"] == 5
    tries = outputs["try"]
    assert {"the leader", "kill the leader", "pause the leader beyond its time"} <= set(tries)
    assert "refused" in " ".join(tries)
    if not preview:
        assert tries["pause the leader beyond its time"].endswith("ticker.py pause 10")
        assert "-n election exec deploy/ticker-" in tries["the leader"]


def test_the_electors_start_when_their_user_is_there() -> None:
    graph = made()
    (told,) = [
        json.loads(text)["users"]
        for body in objects(graph, "ConfigMap")
        for key, text in body["data"].items()
        if key.endswith("access.json")
    ]
    assert [(user["logins"], user["prefix"]) for user in told] == [(["elections"], "/elections/")]
    assert [node.name for node in graph.all("Job") if node.name.startswith("etcd")] == [
        "etcd-access"
    ]
    assert graph.one("Job", "etcd-access").urn in graph.one("Deployment", "ticker").dependencies


def test_no_password_is_readable() -> None:
    graph = made()
    password = graph.one("Password", "etcd-user-elections").outputs["value"]
    for node in graph:
        if not node.type.endswith((":Secret", ":Password")):
            assert password not in str(node.inputs)


@pytest.mark.parametrize("preview", MODES)
def test_an_even_number_of_members_is_refused(preview: bool) -> None:
    with pytest.raises(InputError, match="members is 2; must be 1, 3 or 5"):
        made({"dds:members": "2"}, preview=preview)
