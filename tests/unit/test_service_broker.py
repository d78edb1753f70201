"""The broker: what it tells HAProxy, what it refuses, and what it adds to a pod."""

import pathlib
from typing import Any

import pulumi
import pytest

from dds_patterns import Application, ServiceBroker
from dds_patterns.arguments.errors import InputError
from dds_patterns.values.reach import Credentials, Reach
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates, the
from toolchain.graph import Graph, build

IMAGE = "registry.example/haproxy:1.0"
GOLDEN = pathlib.Path(__file__).parent / "golden"
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
PRIVATE = "-----BEGIN PRIVATE KEY-----\nswordfish\n-----END PRIVATE KEY-----\n"
PEM = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"


def backend(endpoint: Any = "db:6379", **more: Any) -> Reach:
    return Reach("db", (endpoint,), **{"pods": {"app": "db"}, "ports": (6379,), **more})


def outside(endpoint: str = "203.0.113.7:6380", authority: Any = PEM) -> Reach:
    return Reach.outside(endpoint, cidrs=["203.0.113.7/32"], authority=authority)


OUTSIDE: dict[str, Any] = {"backend": outside(), "tls": {"server_name": "db.example.com"}}


def made(preview: bool = False, **args: Any) -> tuple[ServiceBroker, Graph]:
    """A broker in a pod. An argument that is an Output is given as a function that makes it."""
    found: list[ServiceBroker] = []

    def program() -> None:
        given: Any = {k: v() if callable(v) else v for k, v in args.items()}
        given = {"image": IMAGE, "backend": backend(), "listen_port": 6379, **given}
        found.append(ServiceBroker("broker", given))
        Application(
            "web", {"image": "registry.example/web:1.0", "companions": [found[0].companion]}
        )

    graph = build(program, preview=preview)
    return found[0], graph


def files(graph: Graph) -> dict[str, str]:
    (body,) = (b for b in objects(graph, "ConfigMap") if "haproxy.cfg" in b["data"])
    data: dict[str, str] = body["data"]
    return data


def configuration(graph: Graph) -> str:
    return files(graph)["haproxy.cfg"]


@pytest.mark.parametrize(
    ("name", "args"),
    [("inside", {"check": "redis"}), ("outside", OUTSIDE)],
)
@pytest.mark.parametrize("preview", MODES)
def test_the_configuration_is_the_recorded_one(
    name: str, args: dict[str, Any], preview: bool
) -> None:
    _, graph = made(preview, **args)
    assert configuration(graph) == (GOLDEN / f"haproxy-broker-{name}.cfg").read_text()


def test_the_application_has_it_at_the_same_place_wherever_it_is() -> None:
    (_, here), (_, there) = made(), made(**OUTSIDE)
    for graph in (here, there):
        component = graph.one("ServiceBroker")
        assert graph.outputs[component.urn] == {"endpoint": "127.0.0.1:6379"}
    (one,), (other,) = templates(here), templates(there)
    assert one["spec"]["containers"] == other["spec"]["containers"]


def test_retries_timeouts_and_breaker_are_arguments() -> None:
    text = configuration(
        made(
            retries=5,
            connect_timeout_ms=250,
            idle_timeout_seconds=30,
            max_connections=10,
            breaker={"failures": 7, "probe_ms": 400, "probe_timeout_ms": 90, "recoveries": 4},
        )[1]
    )
    for line in (
        "retries 5",
        "timeout connect 250ms",
        "timeout client 30s",
        "timeout server 30s",
        "timeout check 90ms",
        "maxconn 10",
        "check inter 400ms fall 7 rise 4",
        "observe layer4 error-limit 7 on-error mark-down",
    ):
        assert f"  {line}\n" in text or f" {line}\n" in text, line


def test_outside_is_verified_always() -> None:
    _, graph = made(**OUTSIDE)
    text = configuration(graph)
    assert (
        "ssl verify required ca-file /etc/haproxy-broker/ca.pem verifyhost db.example.com" in text
    )
    assert files(graph)["ca.pem"] == PEM
    _, graph = made(backend=outside("db.example.com:6380", None), tls={})
    assert "ca-file @system-ca verifyhost db.example.com sni str(db.example.com)" in configuration(
        graph
    )
    assert "ca.pem" not in files(graph)


def test_without_tls_bytes_are_passed_on_whatever_else_the_reach_says() -> None:
    plain = backend(authority=PEM, credentials=Credentials("swordfish", "me"), app_protocol="redis")
    _, graph = made(backend=plain)
    assert files(graph) == files(made()[1])


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("db:1", '"db.${NAMESPACE}.svc.${CLUSTER_DOMAIN}:1"'),
        ("db.shop.svc:1", '"db.shop.svc.${CLUSTER_DOMAIN}:1"'),
        ("db.example.com:1", '"db.example.com:1"'),
        ("203.0.113.7:1", '"203.0.113.7:1"'),
    ],
)
def test_names_are_completed_since_haproxy_does_not(endpoint: str, expected: str) -> None:
    assert f"server backend {expected} " in configuration(made(backend=backend(endpoint))[1])


def test_what_is_known_later_is_checked_later() -> None:
    late = pulumi.Output.from_input
    graph = made(backend=lambda: backend(late("late.example.com:1"), authority=late(PEM)), tls={})[
        1
    ]
    assert "verifyhost late.example.com" in configuration(graph)
    with pytest.raises(InputError, match=r"endpoints\[0\] is 'bad'"):
        made(backend=lambda: backend(late("bad")))
    with pytest.raises(InputError, match=r"tls.server_name is None; must be given, since 10.0.0.7"):
        made(backend=lambda: backend(late("10.0.0.7:1")), tls={})
    with pytest.raises(InputError, match="must be PEM"):
        made(backend=lambda: outside(authority=late("bad")), tls=OUTSIDE["tls"])


@pytest.mark.parametrize("args", [{}, OUTSIDE], ids=["inside", "outside"])
def test_the_pod_is_hardened_and_valid(args: dict[str, Any]) -> None:
    _, graph = made(**args)
    assert_valid(objects(graph))
    (template,) = templates(graph)
    assert violations(template, restarts=False) == []


def test_only_the_backend_is_reached() -> None:
    policy = the(made(**OUTSIDE)[1], "NetworkPolicy")["spec"]
    assert policy["egress"][1:] == [
        {
            "ports": [{"port": 6380, "protocol": "TCP"}],
            "to": [{"ipBlock": {"cidr": "203.0.113.7/32"}}],
        }
    ]
    assert "ingress" not in policy


def test_others_may_scrape_that_are_named() -> None:
    policy = the(made(metrics_clients=[{"pods": {"role": "x"}}])[1], "NetworkPolicy")["spec"]
    assert policy["ingress"] == [
        {
            "ports": [{"port": 8405, "protocol": "TCP"}],
            "from": [{"podSelector": {"matchLabels": {"role": "x"}}}],
        }
    ]


def test_the_backend_lets_the_pods_in_and_is_ready_first() -> None:
    def program() -> None:
        port: Any = {"name": "redis", "port": 6379}
        database = Application("db", {"image": IMAGE, "ports": [port]})
        args: Any = {"image": IMAGE, "backend": database.reach, "listen_port": 6379}
        broker = ServiceBroker("broker", args)
        Application("web", {"image": IMAGE, "companions": [broker.companion]})

    graph = build(program)
    (let_in,) = [n for n in graph.all("NetworkPolicy") if n.name == "web-to-db"]
    assert let_in.inputs["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "db"
    assert graph.one("Deployment", "db").urn in graph.one("Deployment", "web").dependencies


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"retry": 1}, "did you mean retries?"),
        ({"image": "haproxy"}, "must have a tag"),
        ({"listen_port": 80}, "must be from 1024"),
        ({"status_port": 6379}, "must differ from listen_port"),
        ({"check": "mysql"}, "must be one of tcp, redis"),
        ({"retries": 11}, "must be from 0 to 10"),
        ({"connect_timeout_ms": 0}, "must be from 1"),
        ({"breaker": {"failures": 0}}, "breaker.failures is 0"),
        ({"breaker": {"probe_ms": 50}}, "must be from 100"),
        ({"breaker": {"limit": 1}}, "limit is not an argument"),
        ({"backend": "db:6379"}, "backend is 'db:6379'; must be a Reach, such as"),
        ({"backend": Reach("db", ("a:1", "b:1"), pods={})}, "of a single endpoint"),
        ({"tls": {"verify": False}}, "verify is not an argument"),
        ({"backend": outside(), "tls": {}}, "tls.server_name is None; must be given, since 203."),
        ({"backend": outside("[fd00::1]:1"), "tls": {}}, "[fd00::1] is no name"),
        ({"tls": {"server_name": "a b"}}, "must be a host name"),
        ({"metrics_clients": [{"role": "x"}]}, "metrics_clients[0].role is not an argument"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], expected: str) -> None:
    messages: list[str] = []

    def program() -> None:
        given: Any = {"image": IMAGE, "backend": backend(), "listen_port": 6379, **change}
        with pytest.raises(InputError) as caught:
            ServiceBroker("broker", given)
        messages.append(str(caught.value))

    graph = build(program)
    assert not graph.nodes
    assert messages[0].startswith('ServiceBroker "broker"')
    assert expected in messages[0]


@pytest.mark.parametrize("authority", ["ca", PEM + PRIVATE])
def test_what_is_no_authority_is_refused_and_a_key_is_not_shown(authority: str) -> None:
    with pytest.raises(InputError, match="authority is .*; must be PEM") as caught:
        outside(authority=authority)
    assert "swordfish" not in str(caught.value)
