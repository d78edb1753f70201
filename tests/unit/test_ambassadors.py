"""The composition ``ambassadors``."""

import json
from typing import Any

import pytest

from dds_patterns.arguments.errors import InputError
from dds_patterns.sharding import plan
from stacks import deploy
from stacks.settings import Settings
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates
from toolchain.graph import Graph, Secret, build

CLUSTER = {"kubeconfig": Secret("kubeconfig-of-the-cluster"), "registry": "localhost:5000"}
OWN = "organization/dds/ambassadors"
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]


def made(
    config: dict[str, str] | None = None,
    *,
    preview: bool = False,
    deployed: dict[str, Any] | None = None,
) -> Graph:
    return build(
        lambda: deploy(Settings.load()),
        preview=preview,
        stack="ambassadors",
        config=config,
        references={"organization/dds/cluster": CLUSTER, OWN: deployed or {}},
    )


def check(graph: Graph) -> dict[str, Any]:
    (job,) = objects(graph, "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = {entry["name"]: entry["value"] for entry in container["env"]}
    plan_of_check: dict[str, Any] = json.loads(values["PLAN"])
    return plan_of_check


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"dds:role": "store", "dds:shards": "8"},
        {"dds:role": "store", "dds:persistence": "false"},
        {"dds:policy": "seed", "dds:shards": "1"},
    ],
    ids=str,
)
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
        "ambassadors"
    }
    for template in templates(graph):
        job = template["spec"]["restartPolicy"] == "Never"
        # See test_sharded_redis for why shards do not drain.
        assert set(violations(template, restarts=not job)) <= {"redis: no drain"}


def test_application_and_check_have_the_same_ambassador() -> None:
    by_kind = {
        body["kind"]: body["spec"]["template"]["spec"]
        for body in objects(made())
        if body["kind"] in {"Deployment", "Job"}
    }
    assert by_kind["Deployment"]["initContainers"] == by_kind["Job"]["initContainers"]


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_the_check_knows_where_each_key_belongs(shards: int) -> None:
    told = check(made({"dds:shards": str(shards)}))
    ring = plan(shards).ring()
    assert told["owners"] == [ring.index(f"smoke-test:{i}") for i in range(1000)]
    assert [s["entry"] for s in told["shards"]] == list(plan(shards).names)
    assert told["shards"][0]["address"] == "sharded-redis-0.ambassadors.svc:6379"
    assert told["ambassador"] == "127.0.0.1:6379"


def test_with_the_seeds_policy_the_check_expects_the_seeds_ring() -> None:
    told = check(made({"dds:policy": "seed"}))
    assert told["shards"][0]["entry"] == "sharded-redis-0.ambassadors.svc:6379"
    assert told["owners"] != check(made())["owners"]


def test_the_password_is_read_from_a_file() -> None:
    graph = made()
    password = graph.one("Password", "sharded-redis-password").outputs["value"]
    for node in graph:
        if node.type.endswith((":Deployment", ":Job", ":StatefulSet", ":ConfigMap")):
            assert password not in str(node.inputs)
    assert password in str(graph.one("Secret", "twemproxy").inputs)
    (job,) = objects(graph, "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = {entry["name"]: entry["value"] for entry in container["env"]}
    folder = values["PASSWORD_FILE"].rpartition("/")[0]
    assert folder in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("preview", MODES)
def test_the_outputs_say_what_a_user_wants_to_know(preview: bool) -> None:
    graph = made(preview=preview)
    outputs = graph.outputs[""]
    assert outputs["shards"] == 3
    assert sum(outputs["predicted_shares"].values()) == pytest.approx(1, abs=0.001)
    assert outputs["moved_fraction"] == {
        "3 to 2": pytest.approx(0.333, abs=0.001),
        "3 to 4": pytest.approx(0.25, abs=0.001),
    }
    assert outputs["try"]["kill a shard"].endswith("delete pod sharded-redis-0")
    assert "password" in graph.output_secrets[""]
    assert outputs["endpoint"].endswith(".ambassadors.svc:8080")


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize(
    ("deployed", "said"),
    [
        ({"shards": 3}, "Going from 3 to 4 shards moves 25.0% of the keys"),
        ({"shards": 4}, None),
        ({}, None),
    ],
)
def test_a_changed_number_of_shards_says_what_it_moves(
    deployed: dict[str, int],
    said: str | None,
    preview: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", lambda text, *_: warnings.append(text))
    made({"dds:shards": "4"}, preview=preview, deployed=deployed)
    assert [w for w in warnings if said and w.startswith(said)] == warnings
    assert bool(warnings) == bool(said)


def test_the_forecast_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("pulumi.log.info", lambda text, *_: lines.append(text))
    made(preview=True)
    assert any("33.4%, 33.3%, 33.3%" in line for line in lines)
    assert any("3 to 4 shards moves 25.0%" in line for line in lines)


def test_a_cache_on_disk_is_refused() -> None:
    with pytest.raises(
        InputError, match="dds:persistence is True; has no effect with dds:role cache"
    ):
        made({"dds:persistence": "true"})
