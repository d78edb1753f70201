"""The broker: what it tells HAProxy, what it refuses, and what it adds to a pod."""

import pathlib
from typing import Any

import pulumi
import pytest

from components import Application, ServiceBroker
from components.arguments.errors import InputError
from components.values.edges import Edge
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates, the
from toolchain.graph import Graph, build

IMAGE = "registry.example/haproxy:1.0"
GOLDEN = pathlib.Path(__file__).parent / "golden"
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
INSIDE: dict[str, Any] = {"endpoint": "db:6379", "edge": Edge(ports=(6379,), pods={"app": "db"})}
PRIVATE = "-----BEGIN PRIVATE KEY-----\nswordfish\n-----END PRIVATE KEY-----\n"
PEM = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
OUTSIDE: dict[str, Any] = {
    "endpoint": "203.0.113.7:6380",
    "edge": Edge(ports=(6380,), cidr="203.0.113.7/32"),
    "tls": {"authority": PEM, "server_name": "db.example.com"},
}


def made(preview: bool = False, **args: Any) -> tuple[ServiceBroker, Graph]:
    """A broker in a pod. An argument that is an Output is given as a function that makes it."""
    found: list[ServiceBroker] = []

    def program() -> None:
        given: Any = {k: v() if callable(v) else v for k, v in args.items()}
        given = {"image": IMAGE, "backend": INSIDE, "listen_port": 6379, **given}
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
    [("inside", {"backend": INSIDE, "check": "redis"}), ("outside", {"backend": OUTSIDE})],
)
@pytest.mark.parametrize("preview", MODES)
def test_the_configuration_is_the_recorded_one(
    name: str, args: dict[str, Any], preview: bool
) -> None:
    _, graph = made(preview, **args)
    assert configuration(graph) == (GOLDEN / f"haproxy-broker-{name}.cfg").read_text()


def test_the_application_has_it_at_the_same_place_wherever_it_is() -> None:
    inside, here = made()
    outside, there = made(backend=OUTSIDE)
    assert inside.endpoint == outside.endpoint == "127.0.0.1:6379"
    (one,), (other,) = templates(here), templates(there)
    assert one["spec"]["containers"] == other["spec"]["containers"]


def test_retries_timeouts_and_breaker_are_arguments() -> None:
    text = configuration(
        made(
            retries=5,
            connect_timeout_ms=250,
            idle_timeout_seconds=30,
            most_connections=10,
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
    _, graph = made(backend=OUTSIDE)
    text = configuration(graph)
    assert (
        "ssl verify required ca-file /etc/haproxy-broker/ca.pem verifyhost db.example.com" in text
    )
    assert files(graph)["ca.pem"] == PEM
    public = {**OUTSIDE, "endpoint": "db.example.com:6380", "tls": {}}
    text = configuration(made(backend=public)[1])
    assert "ca-file @system-ca verifyhost db.example.com sni str(db.example.com)" in text


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
    assert f"server backend {expected} " in configuration(
        made(backend={**INSIDE, "endpoint": endpoint})[1]
    )


def test_what_is_known_later_is_checked_later() -> None:
    late = pulumi.Output.from_input
    graph = made(
        backend=lambda: {
            **OUTSIDE,
            "endpoint": late("late.example.com:1"),
            "tls": {"authority": late(PEM)},
        }
    )[1]
    assert "verifyhost late.example.com" in configuration(graph)
    with pytest.raises(InputError, match="endpoint is 'bad'"):
        made(backend=lambda: {**INSIDE, "endpoint": late("bad")})
    with pytest.raises(InputError, match="must be PEM"):
        made(backend=lambda: {**OUTSIDE, "tls": {**OUTSIDE["tls"], "authority": late("bad")}})


@pytest.mark.parametrize("backend", [INSIDE, OUTSIDE], ids=["inside", "outside"])
def test_the_pod_is_hardened_and_valid(backend: dict[str, Any]) -> None:
    _, graph = made(backend=backend)
    assert_valid(objects(graph))
    (template,) = templates(graph)
    assert violations(template, restarts=False) == []


def test_only_the_backend_is_reached() -> None:
    egress = the(made(backend=OUTSIDE)[1], "NetworkPolicy")["spec"]["egress"]
    assert {
        "ports": [{"port": 6380, "protocol": "TCP"}],
        "to": [{"ipBlock": {"cidr": "203.0.113.7/32"}}],
    } in egress
    assert len(egress) == 3, "beside the name service"


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
        ({"backend": {"endpoint": "db:6379"}}, "edge is missing"),
        ({"backend": {**INSIDE, "endpoint": "db"}}, "must be host:port"),
        ({"backend": {**INSIDE, "edge": "db"}}, "must be an Edge"),
        ({"backend": {**OUTSIDE, "tls": {"verify": False}}}, "verify is not an argument"),
        ({"backend": {**OUTSIDE, "tls": {}}}, "203.0.113.7 is no name"),
        (
            {"backend": {**OUTSIDE, "endpoint": "[fd00::1]:1", "tls": {"authority": PEM}}},
            "[fd00::1] is no name",
        ),
        ({"backend": {**OUTSIDE, "tls": {"authority": PEM + PRIVATE}}}, "<secret>; must be PEM"),
        ({"backend": {**OUTSIDE, "tls": {"server_name": "a b"}}}, "must be a host name"),
        ({"backend": {**OUTSIDE, "tls": {"authority": "ca", "server_name": "a"}}}, "must be PEM"),
        ({"scrapers": []}, "one scraper at least"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], expected: str) -> None:
    messages: list[str] = []

    def program() -> None:
        given: Any = {"image": IMAGE, "backend": INSIDE, "listen_port": 6379, **change}
        with pytest.raises(InputError) as caught:
            ServiceBroker("broker", given)
        messages.append(str(caught.value))

    graph = build(program)
    assert not graph.nodes
    assert messages[0].startswith('ServiceBroker "broker"')
    assert expected in messages[0]
    assert "swordfish" not in messages[0], "a key was shown"
