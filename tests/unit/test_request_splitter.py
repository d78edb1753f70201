"""The splitter: what it tells nginx, what it refuses, and what it adds to a pod."""

import pathlib
from typing import Any

import pulumi
import pytest

from dds_patterns import Application, RequestSplitter
from dds_patterns.arguments.errors import InputError
from dds_patterns.values.endpoint import Endpoint
from dds_patterns.values.reach import Reach
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates, the
from toolchain.graph import Graph, build

IMAGE = "registry.example/nginx:1.0"
METRICS = "registry.example/companions:1.0"
GOLDEN = pathlib.Path(__file__).parent / "golden"
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]


def arm(name: str, endpoint: Any, **more: Any) -> Reach:
    return Reach(name, (endpoint,), pods={"app": name}, ports=(8080,), **more)


ARMS: dict[str, Any] = {
    "control": arm("web", "web.shop.svc:80"),
    "experiment": arm("beta", "beta:8080"),
}


def made(preview: bool = False, **args: Any) -> tuple[RequestSplitter, Graph]:
    """A splitter in a pod. An argument that is an Output is given as a function that makes it."""
    found: list[RequestSplitter] = []

    def program() -> None:
        given: Any = {k: v() if callable(v) else v for k, v in args.items()}
        given = {"image": IMAGE, "metrics_image": METRICS, **ARMS, **given}
        splitter = RequestSplitter("split", given)
        found.append(splitter)
        Application(
            "web", {"image": "registry.example/web:1.0", "companions": [splitter.companion]}
        )

    graph = build(program, preview=preview)
    return found[0], graph


def configuration(graph: Graph) -> str:
    (body,) = (b for b in objects(graph, "ConfigMap") if "nginx.conf" in b["data"])
    return str(body["data"]["nginx.conf"])


@pytest.mark.parametrize("policy", ["default", "seed"])
@pytest.mark.parametrize("preview", MODES)
def test_the_configuration_is_the_recorded_one(policy: str, preview: bool) -> None:
    _, graph = made(preview, policy=policy)
    assert configuration(graph) == (GOLDEN / f"nginx-splitter-{policy}.conf").read_text()


@pytest.mark.parametrize(
    ("percent", "expected"),
    [
        (0, "$by_user {\n    * control;\n  }"),
        (0.29, "$by_user {\n    0.29% experiment;\n    * control;\n  }"),
        (10, "$by_user {\n    10.00% experiment;\n    * control;\n  }"),
        (100.0, "$by_user {\n    * experiment;\n  }"),
    ],
)
def test_the_experiment_has_the_first_part_of_the_line(percent: float, expected: str) -> None:
    assert expected in configuration(made(percent=percent)[1])


@pytest.mark.parametrize(
    ("sticky", "expected"),
    [
        ({"by": "header"}, "split_clients split:$http_x_user_id $by_user"),
        ({"by": "header", "name": "X-Account"}, "split_clients split:$http_x_account $by_user"),
        ({"by": "cookie"}, "split_clients split:$cookie_user $by_user"),
        ({"by": "cookie", "name": "session_id"}, "split:$cookie_session_id"),
        ({"by": "address"}, "map $http_x_forwarded_for $user"),
        ({"by": "header", "without": "random"}, "split_clients $request_id $by_chance"),
    ],
)
def test_a_user_is_named_as_said(sticky: dict[str, str], expected: str) -> None:
    assert expected in configuration(made(sticky=sticky)[1])


def test_another_salt_is_another_experiment() -> None:
    assert 'split_clients "new shop:$http_x_user_id"' in configuration(made(salt="new shop")[1])


def test_endpoints_may_be_known_later() -> None:
    text = configuration(
        made(control=lambda: arm("web", pulumi.Output.from_input("late.shop.svc:81")))[1]
    )
    assert "set $address late.shop.svc.$cluster_domain:81;" in text


def test_an_endpoint_that_turns_out_bad_is_refused() -> None:
    with pytest.raises(InputError, match=r"endpoints\[0\] is 'nothing'; must be host:port"):
        made(control=lambda: arm("web", pulumi.Output.from_input("nothing")))


def test_the_application_has_it_on_loopback_and_the_kubelet_its_status() -> None:
    splitter, graph = made(listen_port=7000)
    component = graph.one("RequestSplitter")
    assert graph.outputs[component.urn] == {"endpoint": "127.0.0.1:7000"}
    listeners = {p.name: p for p in splitter.companion.listeners}
    assert listeners["splitter"].local
    assert listeners["splitter-lines"].local
    assert not listeners["splitter-status"].local


@pytest.mark.parametrize("policy", ["default", "seed"])
def test_the_pod_is_hardened_and_valid(policy: str) -> None:
    _, graph = made(policy=policy)
    assert_valid(objects(graph))
    (template,) = templates(graph)
    assert violations(template, restarts=False) == []


def test_only_the_arms_are_reached_and_nobody_is_let_in() -> None:
    policy = the(made()[1], "NetworkPolicy")["spec"]
    assert "ingress" not in policy
    assert policy["egress"][1:] == [
        {
            "ports": [{"port": 8080, "protocol": "TCP"}],
            "to": [{"podSelector": {"matchLabels": {"app": name}}}],
        }
        for name in ("web", "beta")
    ]


def test_others_may_scrape_that_are_named() -> None:
    policy = the(made(metrics_clients=[{"namespace": "blue"}])[1], "NetworkPolicy")["spec"]
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": 9114, "protocol": "TCP"}]
    assert rule["from"][0]["namespaceSelector"]


@pytest.mark.parametrize("policy", ["default", "seed"])
def test_the_arms_let_the_pods_in_and_are_ready_first(policy: str) -> None:
    def program() -> None:
        arms = [
            Application(name, {"image": IMAGE, "ports": [{"name": "http", "port": 8080}]})
            for name in ("old", "new")
        ]
        args: Any = {
            "image": IMAGE, "metrics_image": METRICS, "policy": policy,
            "control": arms[0].reach, "experiment": arms[1].reach,
        }  # fmt: skip
        splitter = RequestSplitter("split", args)
        Application("web", {"image": IMAGE, "companions": [splitter.companion]})

    graph = build(program)
    for name in ("old", "new"):
        (let_in,) = [n for n in graph.all("NetworkPolicy") if n.name == f"web-to-{name}"]
        selected = let_in.inputs["spec"]["podSelector"]["matchLabels"]
        assert selected["app.kubernetes.io/instance"] == name
        web = graph.one("Deployment", "web")
        assert graph.one("Deployment", name).urn in web.dependencies


def test_one_reach_for_both_arms_is_let_through_once() -> None:
    graph = made(experiment=arm("web", "web.shop.svc:80"))[1]
    assert len(the(graph, "NetworkPolicy")["spec"]["egress"]) == 2, "beside the name service"


def test_who_counts_is_no_reason_not_to_serve() -> None:
    (template,) = templates(made()[1])
    counter, proxy = template["spec"]["initContainers"]
    assert counter["name"] == "split-metrics"
    assert "readinessProbe" not in counter
    ready, live = proxy["readinessProbe"], proxy["livenessProbe"]
    assert ready["httpGet"]["path"] != live["httpGet"]["path"]
    assert ready["periodSeconds"] < live["periodSeconds"]


def test_the_seed_counts_nothing() -> None:
    splitter, graph = made(policy="seed")
    assert splitter.job is None
    assert len(splitter.companion.containers) == 1
    assert "ip_hash;" in configuration(graph)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"percentage": 1}, "percentage is not an argument; did you mean percent?"),
        ({"image": "nginx"}, "must have a tag"),
        ({"metrics_image": "companions:latest"}, "must have a tag"),
        ({"percent": -1}, "percent is -1; must be from 0 to 100"),
        ({"percent": 100.5}, "must be from 0 to 100"),
        ({"percent": 0.001}, "at most two decimals"),
        ({"control": "web:80"}, "control is 'web:80'; must be a Reach, such as application.reach"),
        ({"control": None}, "control is missing"),
        (
            {"experiment": Reach.outside("https://beta.example/", cidrs=["0.0.0.0/0"])},
            "must be a reach of a server that speaks http",
        ),
        ({"control": Reach("web", ("a:80", "b:80"), pods={})}, "of a single endpoint"),
        ({"sticky": {"by": "session"}}, "must be one of header, cookie, address"),
        ({"sticky": {"by": "header", "name": "X User"}}, "must be the name of a header"),
        ({"sticky": {"by": "cookie", "name": "a-b"}}, "letters, digits and underscores"),
        ({"sticky": {"by": "header", "name": "X_User"}}, "must be a header that identifies a user"),
        ({"sticky": {"by": "header", "name": "host"}}, "must be a header that identifies a user"),
        (
            {"sticky": {"by": "address", "name": "Cookie"}},
            "must be a header that identifies a user",
        ),
        ({"force_header": "x-user-id"}, "must differ from the header that identifies the user"),
        ({"force_header": "Content-Length"}, "must be a header of its own"),
        ({"percent": 0.00005}, "at most two decimals"),
        ({"percent": 99.999}, "at most two decimals"),
        ({"salt": "x" * 5000}, "at most 256 characters"),
        ({"sticky": {"by": "header", "without": "nobody"}}, "must be one of control, random"),
        ({"salt": "$x"}, "without $"),
        ({"force_header": "a;b"}, "must be the name of a header"),
        ({"policy": "book"}, "must be one of default, seed"),
        ({"policy": "seed", "percent": 20}, 'policy "seed" is what the book prints'),
        ({"listen_port": 80}, "must be from 1024"),
        ({"status_port": 8080}, "must differ from listen_port"),
        ({"connect_timeout_ms": 0}, "must be from 1"),
        ({"metrics_clients": [{"role": "x"}]}, "metrics_clients[0].role is not an argument"),
        ({"policy": "seed", "metrics_clients": [{}]}, "metrics_clients is "),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], expected: str) -> None:
    messages: list[str] = []

    def program() -> None:
        given: Any = {"image": IMAGE, "metrics_image": METRICS, **ARMS, **change}
        with pytest.raises(InputError) as caught:
            RequestSplitter("split", given)
        messages.append(str(caught.value))

    graph = build(program)
    assert not graph.nodes
    assert messages[0].startswith('RequestSplitter "split"')
    assert expected in messages[0]


def test_two_on_one_port_are_refused_and_on_two_are_not() -> None:
    def program(step: int) -> None:
        companions = [
            RequestSplitter(
                f"split{i}",
                {
                    "image": IMAGE,
                    "metrics_image": METRICS,
                    "control": ARMS["control"],
                    "experiment": ARMS["experiment"],
                    "listen_port": 8080 + 10 * step * i,
                    "status_port": 8081 + 10 * i,
                    "metrics_port": 9114 + i,
                    "line_port": 5140 + i,
                },
            ).companion
            for i in range(2)
        ]
        Application("web", {"image": IMAGE, "companions": companions})

    with pytest.raises(InputError, match="must be free"):
        build(lambda: program(0))
    build(lambda: program(1))


@pytest.mark.parametrize("text", ["web", "web:", ":80", "web:x", "web:70000", "a b:1", "-a:1"])
def test_an_endpoint_is_host_and_port(text: str) -> None:
    with pytest.raises(InputError, match="must be host:port"):
        Endpoint.parse(text)


def test_an_endpoint_is_read() -> None:
    assert Endpoint.parse("web.shop.svc:80") == Endpoint("web.shop.svc", 80)
    assert str(Endpoint.parse("[fd00::1]:80")) == "[fd00::1]:80"


@pytest.mark.parametrize(
    ("host", "namespace"),
    [
        ("web", ""),
        ("web.shop", "shop"),
        ("web.shop.svc", "shop"),
        ("web-0.web.shop.svc", "shop"),
        ("web.svc", "svc"),
        ("web.", None),
        ("example.com.", None),
        ("www.example.com", None),
        ("10.0.0.7", None),
        ("[fd00::7]", None),
    ],
)
def test_a_service_is_told_from_what_is_outside(host: str, namespace: str | None) -> None:
    assert Endpoint(host, 80).namespace == namespace
