"""Pipeline: what its pods are told, and what is refused at preview."""

import json
import runpy
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components import Application, EventBus, Pipeline, Subscriber
from components.arguments.errors import InputError
from components.values.bus import BusTopology
from components.values.edges import Edge
from components.values.flow import Flow, Next
from components.values.targets import Target
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates, the
from tests.unit.test_flow import SIGNUP
from toolchain.graph import Graph, build

MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
IMAGE = "registry.example/events:1.0"
PASSWORD = "swordfish-long-enough"
FLOW = Flow("signup", "create-user", SIGNUP)
EDGE = Edge(ports=(8080,), pods={"app": "steps"})


def bus() -> BusTopology:
    return BusTopology(
        name="bus",
        server="bus-client:4222",
        port=4222,
        username="client",
        password=pulumi.Output.secret(PASSWORD),
        client_label=("dds/client-of-bus", "true"),
        delivery_label=("dds/delivers-for-bus", "true"),
        server_labels={"app.kubernetes.io/instance": "bus"},
    )


def target(url: Any = "http://steps.here.svc:8080/", edge: Any = EDGE) -> Target:
    return Target(url, edge)


def pipeline_args(**more: Any) -> Any:
    return {
        "image": IMAGE,
        "bus": bus(),
        "flow": FLOW,
        "targets": dict.fromkeys(FLOW.steps, target()),
        **more,
    }


def subscriber_args(**more: Any) -> Any:
    one = {"name": "two-factor", "topic": "login.requested", "target": target()}
    return {"image": IMAGE, "bus": bus(), "subscriptions": [one], **more}


def made(component: Any, args: Any, preview: bool = False) -> Graph:
    return build(lambda: component("one", args()), preview=preview)


def told(graph: Graph) -> Any:
    return json.loads(the(graph, "ConfigMap")["data"]["etc_events_deliver.json"])


BOTH = [
    pytest.param(Pipeline, pipeline_args, id="Pipeline"),
    pytest.param(Subscriber, subscriber_args, id="Subscriber"),
]


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize(("component", "args"), BOTH)
def test_objects_are_valid_and_pods_hardened(component: Any, args: Any, preview: bool) -> None:
    graph = made(
        component, lambda: args(namespace="here", monitors=[{"app": "prometheus"}]), preview
    )
    assert_valid(objects(graph))
    for template in templates(graph):
        assert violations(template) == []
    top = graph.one(f"dds:index:{component.__name__}", "one")
    assert top.parent == ""
    assert top.urn in graph.outputs
    assert {node.name for node in graph.children(top)} == {"one"}
    for node in graph:
        if not node.type.endswith(":Secret"):
            assert PASSWORD not in str(node.inputs)
    assert PASSWORD in the(graph, "Secret")["stringData"].values()


def test_the_pods_are_told_every_edge_and_how_to_deliver() -> None:
    graph = made(
        Pipeline,
        lambda: pipeline_args(
            targets={
                step: target(pulumi.Output.from_input(f"http://{step}:8080/"))
                for step in FLOW.steps
            },
            delivery={"attempts": 5, "timeout_seconds": 2},
            deliveries={"email-user": {"attempts": 20, "first_delay_seconds": 0.5}},
        ),
    )
    document = told(graph)
    assert document["accepts"] == {"signup": "signup.create-user"}
    assert document["firsts"] == {"signup": ["create-user"]}
    by_name = {one["name"]: one for one in document["subscriptions"]}
    assert by_name["create-user"] == {
        "name": "create-user",
        "topic": "signup.create-user",
        "url": "http://create-user:8080/",
        "attempts": 5,
        "first_delay": 1,
        "longest_delay": 60,
        "timeout": 2,
        "in_flight": 4,
        "required": {"email-user": "signup.email-user"},
        "optional": {"subscribe-user": ["newsletter", "signup.subscribe-user"]},
    }
    mail = by_name["email-user"]
    assert (mail["attempts"], mail["first_delay"], mail["timeout"]) == (20, 0.5, 2)
    assert (mail["required"], mail["optional"]) == ({}, {})


def test_only_the_bus_and_the_targets_are_reached_and_only_clients_publish() -> None:
    graph = made(Pipeline, lambda: pipeline_args(clients=[{"role": "web"}]))
    policy = the(graph, "NetworkPolicy")["spec"]
    ways = [rule for rule in policy["egress"] if rule["ports"][0]["port"] != 53]
    assert ways == [
        {
            "ports": [{"port": 4222, "protocol": "TCP"}],
            "to": [{"podSelector": {"matchLabels": {"app.kubernetes.io/instance": "bus"}}}],
        },
        {
            "ports": [{"port": 8080, "protocol": "TCP"}],
            "to": [{"podSelector": {"matchLabels": {"app": "steps"}}}],
        },
    ]
    assert policy["ingress"] == [
        {
            "ports": [{"port": 8080, "protocol": "TCP"}],
            "from": [{"podSelector": {"matchLabels": {"role": "web"}}}],
        }
    ]
    labels = templates(graph)[0]["metadata"]["labels"]
    assert labels["dds/client-of-bus"] == labels["dds/delivers-for-bus"] == "true"
    assert "ingress" not in the(made(Pipeline, pipeline_args), "NetworkPolicy")["spec"]


def test_a_subscriber_tells_which_subscriptions_a_published_event_goes_to() -> None:
    subscriptions = [
        {"name": "a", "topic": "x.y", "target": target()},
        {"name": "b", "topic": "x.y", "target": target()},
        {"name": "c", "topic": "z", "target": target()},
    ]
    document = told(
        made(
            Subscriber,
            lambda: subscriber_args(subscriptions=subscriptions, accepts=["x.y"], clients=[{}]),
        )
    )
    assert document["accepts"] == {"x.y": "x.y"}
    assert document["firsts"] == {"x.y": ["a", "b"]}


COMMON = [
    ({"images": IMAGE}, "did you mean image"),
    ({"replicas": 0}, "replicas is 0; must be at least 1"),
]
REFUSED = [
    *((Pipeline, pipeline_args, *case) for case in COMMON),
    *((Subscriber, subscriber_args, *case) for case in COMMON),
    *(
        (Pipeline, pipeline_args, *case)
        for case in [
            ({"targets": {}}, "must say where the step create-user is"),
            (
                {"targets": dict.fromkeys([*FLOW.steps, "emial-user"], target())},
                "did you mean email-user",
            ),
            ({"deliveries": {"mail": {}}}, "deliveries is 'mail'"),
            ({"deliveries": {"email-user": {"attempt": 1}}}, "did you mean attempts"),
            ({"delivery": {"attempts": 0}}, "delivery.attempts is 0; must be from 1 to 100"),
            (
                {"delivery": {"first_delay_seconds": 5, "longest_delay_seconds": 1}},
                "delivery.longest_delay_seconds is 1; must be at least first_delay_seconds, which",
            ),
            (
                {
                    "delivery": {"longest_delay_seconds": 7},
                    "deliveries": {"email-user": {"first_delay_seconds": 8}},
                },
                r"deliveries\[email-user\].first_delay_seconds is 8; must be at most longest_delay",
            ),
            ({"deliveries": {"email-user": {"in_flight": 257}}}, "must be from 1 to 256"),
        ]
    ),
    *(
        (Subscriber, subscriber_args, *case)
        for case in [
            ({"subscriptions": []}, r"subscriptions is \[\]; must not be empty"),
            ({"accepts": ["login", "login"]}, "accepts is .*; must be unique"),
            ({"clients": [{}]}, "nothing is accepted"),
            (
                {"subscriptions": [{"name": "a", "topic": "a..b", "target": target()}]},
                r"subscriptions\[0\].topic is 'a..b'; must be a topic",
            ),
            (
                {"subscriptions": [{"name": "a.b", "topic": "a", "target": target()}]},
                "DNS label",
            ),
            (
                {"subscriptions": [{"name": "a", "topic": "a", "target": target()}] * 2},
                "stands twice",
            ),
            ({"subscriptions": [{"name": "a", "topic": "a"}]}, "target is missing"),
        ]
    ),
]


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize(("component", "args", "change", "message"), REFUSED)
def test_bad_input_is_refused_before_anything_is_registered(
    component: Any, args: Any, change: Any, message: str, preview: bool
) -> None:
    refused = []

    def program() -> None:
        with pytest.raises(InputError, match=message) as caught:
            component("one", args(**change))
        refused.append(str(caught.value))

    assert not build(program, preview=preview).nodes
    assert f'{component.__name__} "one"' in refused[0]


@pytest.mark.parametrize("url", ["steps:8080", "ftp://steps/", ""])
def test_a_target_is_an_http_url(url: str) -> None:
    with pytest.raises(InputError, match="must be a URL"):
        Target(url, EDGE)
    with pytest.raises(InputError, match="must be an Edge"):
        Target("http://steps/", "steps")  # type: ignore[arg-type]


@pytest.mark.parametrize("preview", MODES)
def test_a_cycle_is_refused_at_preview_with_its_path(preview: bool) -> None:
    def program() -> None:
        EventBus("bus", {"image": "registry.example/nats:1", "tools_image": IMAGE})
        with pytest.raises(InputError, match="'a to b to c to a'"):
            Flow("calls", "a", {"a": Next(("b",)), "b": Next(("c",)), "c": Next(("a",))})
        Application("after", {"image": IMAGE})

    assert build(program, preview=preview).nodes


def test_the_example_is_a_program_of_its_own() -> None:
    example = Path(__file__).parents[2] / "examples" / "pipeline" / "__main__.py"
    images = {"nats": "nats:2.9.25", "events": IMAGE, "function": "registry.example/function:1"}

    config = {f"dds:{key}": image for key, image in images.items()}
    graph = build(lambda: runpy.run_path(str(example)), config=config)
    assert_valid(objects(graph))
    assert len(graph.all("dds:index:Function")) == 2
    assert set(graph.outputs[""]) == {"endpoint", "namespace", "try", "trace"}
