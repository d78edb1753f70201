"""The composition ``functions``: the decorator and the API behind it."""

import json
from pathlib import Path
from typing import Any

import pytest

from dds_patterns.arguments.errors import InputError
from stacks import deploy
from stacks.settings import Settings
from stacks.signup import SIGNUP
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates
from toolchain.graph import Graph, Secret, build

CLUSTER = {"kubeconfig": Secret("kubeconfig-of-the-cluster"), "registry": "localhost:5000"}
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]


def made(config: dict[str, str] | None = None, *, preview: bool = False) -> Graph:
    return build(
        lambda: deploy(Settings.load()),
        preview=preview,
        stack="functions",
        config=config,
        references={"organization/dds/cluster": CLUSTER},
    )


def of(graph: Graph, kind: str, instance: str) -> dict[str, Any]:
    (found,) = [
        body
        for body in objects(graph, kind)
        if body["metadata"]["labels"].get("app.kubernetes.io/instance") == instance
    ]
    return found


def let_in(graph: Graph, instance: str) -> set[str]:
    """The workloads whose pods may connect to those of another."""
    return {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/instance"]
        for body in objects(graph, "NetworkPolicy")
        if body["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == instance
        for rule in body["spec"].get("ingress", [])
        for peer in rule["from"]
    }


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"dds:on_failure": "open", "dds:min_scale": "2", "dds:max_scale": "2"},
        {"dds:min_scale": "0"},
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
    assert {b["metadata"]["namespace"] for b in bodies if b["kind"] != "Namespace"} == {"functions"}
    for template in templates(graph):
        job = template["spec"]["restartPolicy"] == "Never"
        # A single bus has no other to which its clients could go.
        found = set(violations(template, restarts=not job)) - {"nats: no drain"}
        assert "drain" not in str(found)


def test_the_api_lets_in_the_decorator_and_the_check_alone() -> None:
    assert let_in(made(), "paint") == {"add-defaults", "functions-check"}


def test_the_settings_reach_the_decorator() -> None:
    graph = made({"dds:on_failure": "open", "dds:min_scale": "2", "dds:max_scale": "4"})
    spec = of(graph, "Deployment", "add-defaults")["spec"]["template"]["spec"]
    told = {entry["name"]: entry["value"] for entry in spec["containers"][0]["env"]}
    assert told["FUNCTION_ON_FAILURE"] == "open"
    scaler = of(graph, "HorizontalPodAutoscaler", "add-defaults")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 4)


@pytest.mark.parametrize("preview", MODES)
def test_the_outputs_say_how_to_try_it(preview: bool) -> None:
    outputs = made(preview=preview).outputs[""]
    assert outputs["endpoint"].endswith(".functions.svc:8080")
    assert "an order without a colour" in outputs["try"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"dds:on_failure": "ignore"}, "dds:on_failure is 'ignore'; must be one of closed, open"),
        ({"dds:min_scale": "-1"}, "dds:min_scale is -1; must be from 0 to 100"),
        ({"dds:min_scale": "5", "dds:max_scale": "2"}, "min_scale is 5; must not be above"),
    ],
    ids=str,
)
def test_bad_settings(config: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        made(config)


def test_the_events_of_the_composition_go_the_declared_ways() -> None:
    graph = made()
    told = json.loads(of(graph, "ConfigMap", "signup")["data"]["deliver.json"])
    assert [one["name"] for one in told["subscriptions"]] == list(SIGNUP.steps)
    for one in told["subscriptions"]:
        assert list(one["required"]) == list(SIGNUP.steps[one["name"]].required)
    assert {step: let_in(graph, step) for step in SIGNUP.steps} == {
        step: {"signup"} for step in SIGNUP.steps
    }
    assert let_in(graph, "two-factor") == {"logins"}
    for service in ("codes", "sms-gateway"):
        assert let_in(graph, service) - {"events-check"} == {"two-factor"}
    assert let_in(graph, "bus") == {"bus-streams", "signup", "logins", "codes", "events-check"}


def test_the_gateways_token_is_no_part_of_any_source() -> None:
    graph = made()
    (token,) = [o for o in objects(graph, "Secret") if "sms-gateway" in o["metadata"]["name"]]
    (value,) = token["stringData"].values()
    for body in objects(graph):
        assert body["kind"] == "Secret" or value not in str(body)
    source = of(graph, "ConfigMap", "two-factor")["data"]
    assert "def two_factor(context" in str(source)


def test_the_trace_is_asked_where_the_output_says() -> None:
    place = made().outputs[""]["trace"]
    assert place["namespace"] == "functions"
    assert place["deployment"].startswith("signup")


def test_the_page_draws_the_pipeline_from_its_declaration() -> None:
    page = Path(__file__).parents[2] / "docs" / "patterns" / "functions.md"
    assert f"```mermaid\n{SIGNUP.mermaid()}```" in page.read_text()
