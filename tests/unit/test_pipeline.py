"""Pipeline: what its pods are told, and what is refused at preview."""

import json
import runpy
from pathlib import Path
from typing import Any

import pulumi
import pytest

from dds_patterns import Application, EventBus, Function, Pipeline, Subscriber
from dds_patterns.arguments.errors import InputError
from dds_patterns.values.flow import Flow, Next
from dds_patterns.values.reach import Credentials, Reach
from tests.unit.support.examples.example import CERTIFICATE, reach
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, policy, templates, the
from tests.unit.test_flow import SIGNUP
from toolchain.graph import Graph, build

MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
IMAGE = "registry.example/events:1.0"
PASSWORD = "swordfish-long-enough"
FLOW = Flow("signup", "create-user", SIGNUP)


def bus(**more: Any) -> Reach:
    login = Credentials(pulumi.Output.secret(PASSWORD), "client")
    return reach("bus", 4222, app_protocol="nats", **{"credentials": login, **more})


def target(name: str = "steps", **more: Any) -> Reach:
    return reach(name, app_protocol="http", **more)


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
    return json.loads(the(graph, "ConfigMap")["data"]["deliver.json"])


BOTH = [
    pytest.param(Pipeline, pipeline_args, id="Pipeline"),
    pytest.param(Subscriber, subscriber_args, id="Subscriber"),
]


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize(("component", "args"), BOTH)
def test_objects_are_valid_and_pods_hardened(component: Any, args: Any, preview: bool) -> None:
    graph = made(
        component, lambda: args(hosting={"namespace": "here"}, metrics_clients=[{}]), preview
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
                step: target(
                    endpoints=(pulumi.Output.from_input(f"{step}:8080"),), ports=(8080,), path="/in"
                )
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
        "url": "http://create-user:8080/in",
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


def at(port: int, **rule: Any) -> dict[str, Any]:
    return {"ports": [{"port": port, "protocol": "TCP"}], **rule}


def pods(labels: Any, namespace: str = "") -> dict[str, Any]:
    peer: dict[str, Any] = {"podSelector": {"matchLabels": labels}}
    if namespace:
        peer["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return peer


def test_only_the_bus_and_the_targets_are_reached_and_they_let_it_in() -> None:
    hook = Reach.outside("https://hooks.example.org/in?a=b", cidrs=["203.0.113.0/24"])
    targets = {**dict.fromkeys(FLOW.steps, target()), "email-user": hook}
    graph = made(Pipeline, lambda: pipeline_args(targets=targets, hosting={"namespace": "here"}))
    assert policy(graph, "one")["spec"]["egress"][1:] == [
        at(4222, to=[pods({"app": "bus"}, "there")]),
        at(8080, to=[pods({"app": "steps"}, "there")]),
        at(443, to=[{"ipBlock": {"cidr": "203.0.113.0/24"}}]),
    ]
    own = policy(graph, "one")["spec"]["podSelector"]["matchLabels"]
    for name, port in (("bus", 4222), ("steps", 8080)):
        there = graph.one("NetworkPolicy", f"one-to-{name}").inputs
        assert there["metadata"]["namespace"] == "there"
        assert there["spec"]["podSelector"] == {"matchLabels": {"app": name}}
        assert there["spec"]["ingress"] == [at(port, **{"from": [pods(own, "here")]})]
    assert {node.name for node in graph.all("NetworkPolicy")} == {
        "one",
        "one-to-bus",
        "one-to-steps",
    }
    urls = {one["name"]: one["url"] for one in told(graph)["subscriptions"]}
    assert urls["email-user"] == "https://hooks.example.org/in?a=b"


def test_steps_that_are_paths_of_one_application_are_one_connection() -> None:
    def program() -> None:
        app = Application("steps", {"image": IMAGE, "ports": [{"name": "http", "port": 8080}]})
        Pipeline("one", pipeline_args(targets={s: app.reach.at(f"/{s}") for s in FLOW.steps}))

    graph = build(program)
    assert len(policy(graph, "one")["spec"]["egress"]) == 3
    assert len([n for n in graph.all("NetworkPolicy") if n.name.startswith("one-to-steps")]) == 1
    data = [n.inputs["data"] for n in graph.all("ConfigMap")]
    urls = [one["url"] for one in json.loads(data[0]["deliver.json"])["subscriptions"]]
    assert [url.rpartition(":8080")[2] for url in urls] == [f"/{step}" for step in FLOW.steps]


def test_only_clients_publish_and_only_those_named_see_metrics() -> None:
    assert "ingress" not in policy(made(Pipeline, pipeline_args), "one")["spec"]
    graph = made(
        Pipeline,
        lambda: pipeline_args(
            clients=[{"pods": {"role": "web"}}],
            metrics_clients=[{"namespace": "monitoring", "pods": {"app": "prometheus"}}],
        ),
    )
    assert policy(graph, "one")["spec"]["ingress"] == [
        at(8080, **{"from": [pods({"role": "web"})]}),
        at(8081, **{"from": [pods({"app": "prometheus"}, "monitoring")]}),
    ]


def test_it_is_told_the_address_and_the_user_of_the_bus() -> None:
    graph = made(Pipeline, pipeline_args)
    (container,) = templates(graph)[0]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment == {"BUS": "bus.there.svc:4222", "BUS_USER": "client"}


@pytest.mark.parametrize(
    ("component", "args", "path"),
    [
        pytest.param(Pipeline, pipeline_args, "/events/signup", id="Pipeline"),
        pytest.param(
            Subscriber, lambda: subscriber_args(accepts=["login"]), "/events", id="Subscriber"
        ),
    ],
)
def test_what_reaches_it_publishes_once_it_is_ready(component: Any, args: Any, path: str) -> None:
    def program() -> None:
        events = component("one", args())
        pulumi.export("urls", [events.url, events.reach.url])
        Application("web", {"image": IMAGE, "reaches": [events.reach]})

    graph = build(program)
    urls = graph.outputs[""]["urls"]
    assert urls[0] == urls[1]
    assert urls[0].endswith(f".default.svc:8080{path}")
    assert (
        policy(graph, "web-to-one")["spec"]["podSelector"]
        == policy(graph, "one")["spec"]["podSelector"]
    )
    assert [
        rule["ports"][0]["port"] for rule in policy(graph, "web-to-one")["spec"]["ingress"]
    ] == [8080]
    ready = graph.one("Deployment", "one").urn
    assert ready in graph.one("Deployment", "web").dependencies


def test_functions_are_ready_before_events_are_delivered_to_them() -> None:
    def program() -> None:
        code = "def handler(context):\n    return {}\n"
        function = Function("mail", {"image": IMAGE, "code": code, "min_scale": 0})
        one: Any = {"name": "mail", "topic": "mail.wanted", "target": function.reach}
        Subscriber("one", subscriber_args(subscriptions=[one]))

    graph = build(program)
    assert (
        graph.one("Deployment", "mail-activator").urn in graph.one("Deployment", "one").dependencies
    )
    assert (
        policy(graph, "one-to-mail-activator")["spec"]["podSelector"]
        == policy(graph, "mail-activator")["spec"]["podSelector"]
    )


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


WRONG = [
    ("http://steps:8080/", "must be a Reach"),
    (reach("steps", app_protocol="redis"), "must be a reach of a server that speaks http or https"),
    (Reach.local(8080), "must be in another pod or outside"),
    (target(credentials=Credentials(PASSWORD)), "must be in .* without credentials and authority"),
    (target(authority=CERTIFICATE), "must be in .* without credentials and authority"),
]
COMMON = [
    ({"images": IMAGE}, "did you mean image"),
    ({"replicas": 0}, "replicas is 0; must be at least 1"),
    ({"bus": "bus:4222"}, "bus is 'bus:4222'; must be a Reach"),
    ({"bus": target()}, "bus is .*; must be a reach of a server that speaks nats"),
    (
        {"bus": reach("bus", 4222)},
        "bus.credentials is None; must be given, with a username, as in the reach of an EventBus",
    ),
    (
        {"bus": reach("bus", 4222, credentials=Credentials(PASSWORD))},
        "bus.credentials is .*; must be given, with a username",
    ),
]
REFUSED = [
    *((Pipeline, pipeline_args, *case) for case in COMMON),
    *((Subscriber, subscriber_args, *case) for case in COMMON),
    *(
        (Pipeline, pipeline_args, *case)
        for case in [
            ({"targets": {}}, "must have a target for the step create-user"),
            (
                {"targets": dict.fromkeys([*FLOW.steps, "emial-user"], target())},
                "did you mean email-user",
            ),
            ({"deliveries": {"mail": {}}}, "deliveries is 'mail'"),
            ({"deliveries": {"email-user": {"attempt": 1}}}, "did you mean attempts"),
            ({"delivery": {"attempts": 0}}, "delivery.attempts is 0; must be from 1 to 100"),
            (
                {"delivery": {"first_delay_seconds": 5, "max_delay_seconds": 1}},
                "delivery.max_delay_seconds is 1; must be at least first_delay_seconds, which",
            ),
            (
                {
                    "delivery": {"max_delay_seconds": 7},
                    "deliveries": {"email-user": {"first_delay_seconds": 8}},
                },
                r"deliveries\[email-user\].first_delay_seconds is 8; must be at most max_delay",
            ),
            ({"deliveries": {"email-user": {"in_flight": 257}}}, "must be from 1 to 256"),
            *(
                (
                    {"targets": {**dict.fromkeys(FLOW.steps, target()), "email-user": wrong}},
                    rf"targets\[email-user\] is .*; {message}",
                )
                for wrong, message in WRONG
            ),
        ]
    ),
    *(
        (Subscriber, subscriber_args, *case)
        for case in [
            ({"subscriptions": []}, r"subscriptions is \[\]; must not be empty"),
            ({"accepts": ["login", "login"]}, "accepts is .*; must be unique"),
            ({"clients": [{}]}, "without accepts"),
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
                "is listed twice",
            ),
            ({"subscriptions": [{"name": "a", "topic": "a"}]}, "target is missing"),
            *(
                (
                    {"subscriptions": [{"name": "a", "topic": "a", "target": wrong}]},
                    rf"subscriptions\[0\].target is .*; {message}",
                )
                for wrong, message in WRONG
            ),
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
    assert PASSWORD not in refused[0]


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
    images = {"nats": "nats:2.15.2", "events": IMAGE, "function": "registry.example/function:1"}

    config = {f"dds:{key}": image for key, image in images.items()}
    graph = build(lambda: runpy.run_path(str(example)), config=config)
    assert_valid(objects(graph))
    assert len(graph.all("dds:index:Function")) == 2
    assert set(graph.outputs[""]) == {"url", "namespace", "try", "trace"}
