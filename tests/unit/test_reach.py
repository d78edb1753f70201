"""Reach: what it may be, and what it makes of NetworkPolicies and the order of things."""

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

import pulumi
import pytest

from dds_patterns import Application, StatefulApplication, Task
from dds_patterns.arguments.constraints import Address
from dds_patterns.arguments.errors import InputError
from dds_patterns.pods.companion import Companion, Listener, Rule
from dds_patterns.values.reach import Credentials, Reach
from dds_patterns.values.topology import Topology
from tests.unit.support.examples import EVERY, IMAGE, Example, companion
from tests.unit.support.examples.example import reach
from tests.unit.support.manifests import objects, policy
from tests.unit.support.odd import arguments
from toolchain.graph import Graph, build

HTTP: Any = {"name": "http", "port": 8080}
WEB = {
    "app.kubernetes.io/name": "web",
    "app.kubernetes.io/instance": "web",
    "app.kubernetes.io/component": "application",
}


def application(**args: Any) -> Graph:
    return build(lambda: Application("web", {"image": IMAGE, **args}))  # type: ignore[typeddict-item]


def own(graph: Graph) -> dict[str, Any]:
    """The NetworkPolicy of the workload itself."""
    spec: dict[str, Any] = policy(graph, "web")["spec"]
    return spec


def out(graph: Graph) -> list[dict[str, Any]]:
    """Its ways out, but for name resolution."""
    rules: list[dict[str, Any]] = own(graph)["egress"][1:]
    return rules


def selected(labels: dict[str, str], namespace: str = "") -> dict[str, Any]:
    """Pods as a NetworkPolicy selects them."""
    peer: dict[str, Any] = {"podSelector": {"matchLabels": labels}}
    if namespace:
        peer["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return peer


# What it may be


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pods": None, "namespace": None, "isolated": False}, "pods is None; must be given, or"),
        ({"cidrs": ("203.0.113.0/24",)}, "cidrs is .* must be left out: there are pods"),
        (
            {"pods": None, "isolated": False, "cidrs": ("203.0.113.0/24",)},
            "namespace is 'there'; needs pods",
        ),
        (
            {"pods": None, "namespace": None, "cidrs": ("203.0.113.0/24",)},
            "isolated is True; needs pods",
        ),
        ({"endpoints": ("a:1", "a:1")}, "endpoints is 'a:1'; must be unique"),
        ({"endpoints": ("127.0.0.1:80",)}, "endpoints is .* must be no loopback address"),
        ({"endpoints": ("localhost:80",)}, "endpoints is .* must be no loopback address"),
        ({"app_protocol": "http", "path": "events"}, "path is 'events'; must begin with a slash"),
        ({"topology": Topology(("a", "b"))}, "topology is .* a shard for each endpoint, of .* 1"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f'^Reach "api": {message}'):
        reach(**given)


def test_ports_are_those_of_the_endpoints_unless_they_are_given() -> None:
    assert Reach("a", ("x:2", "y:1", "z:2"), pods={}).ports == (1, 2)
    assert Reach("a", ("x:80",), pods={}, ports=(8080,)).ports == (8080,)


def test_ports_are_asked_for_where_an_endpoint_is_known_only_later() -> None:
    def program() -> None:
        with pytest.raises(InputError, match="ports is None; must be given where an endpoint is"):
            Reach("a", (pulumi.Output.from_input("x:1"),), pods={})

    build(program)


def test_a_loopback_address_needs_neither_pods_nor_networks() -> None:
    here = Reach.local(6379, app_protocol="redis")
    assert here.is_local
    assert here.endpoints == ("127.0.0.1:6379",)
    assert not out(application(reaches=[here]))


@pytest.mark.parametrize(
    ("address", "endpoint", "url", "name"),
    [
        ("db.example.org:5432", "db.example.org:5432", None, "db-example-org"),
        ("https://a.example/x?y=1", "a.example:443", "https://a.example/x?y=1", "a-example"),
        ("http://a.example", "a.example:80", "http://a.example/", "a-example"),
        ("https://a.example:8443/", "a.example:8443", "https://a.example:8443/", "a-example"),
        ("https://[fd00::1]/x", "[fd00::1]:443", "https://[fd00::1]/x", "fd00-1"),
        ("http://a.example?y", "a.example:80", "http://a.example/?y", "a-example"),
    ],
)
def test_what_is_outside_is_named_by_its_address(
    address: str, endpoint: str, url: str | None, name: str
) -> None:
    made = Reach.outside(address, cidrs=["203.0.113.0/24"])
    assert (made.endpoints, made.name) == ((endpoint,), name)

    def program() -> None:
        pulumi.export("url", Reach.outside(address, cidrs=["0.0.0.0/0"]).url)

    if url is not None:
        assert build(program).outputs[""]["url"] == url


@pytest.mark.parametrize(
    "address",
    [
        "",
        "web",
        "web/path:1",
        "ftp://web/",
        "web:99999",
        "https://me:swordfish@web/",
        "a b:1",
        None,
    ],
)
def test_what_is_no_address_is_refused(address: Any) -> None:
    with pytest.raises(InputError, match=r"^Reach.outside: address") as caught:
        Reach.outside(address, cidrs=["0.0.0.0/0"])
    assert "swordfish" not in str(caught.value)


def test_a_password_is_in_no_message() -> None:
    with pytest.raises(InputError) as caught:
        Credentials("hunter#2", "client")
    assert "hunter" not in str(caught.value)


# In and out


def test_nothing_goes_in_or_out_but_name_resolution() -> None:
    rules = own(application(ports=[HTTP]))
    assert rules["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in rules
    assert rules["egress"] == [
        {
            "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
            "to": [selected({"k8s-app": "kube-dns"}, "kube-system")],
        }
    ]


def test_clients_connect_to_the_exposed_ports_only() -> None:
    graph = application(
        ports=[HTTP, {"name": "admin", "port": 9000}],
        expose=["http"],
        clients=[{"pods": {"role": "x"}}, {"namespace": "blue"}, {"cidr": "203.0.113.0/24"}],
    )
    assert own(graph)["ingress"] == [
        {
            "ports": [{"port": 8080, "protocol": "TCP"}],
            "from": [
                selected({"role": "x"}),
                selected({}, "blue"),
                {"ipBlock": {"cidr": "203.0.113.0/24"}},
            ],
        }
    ]


def test_a_port_may_have_clients_of_its_own() -> None:
    graph = application(
        ports=[
            {**HTTP, "clients": []},
            {"name": "more", "port": 8081},
            {"name": "metrics", "port": 9000, "clients": [{"namespaces": {"team": "blue"}}]},
        ],
        expose=["http", "more"],
        clients=[{}],
    )
    assert own(graph)["ingress"] == [
        {"ports": [{"port": 8081, "protocol": "TCP"}], "from": [selected({})]},
        {
            "ports": [{"port": 9000, "protocol": "TCP"}],
            "from": [
                {
                    "podSelector": {"matchLabels": {}},
                    "namespaceSelector": {"matchLabels": {"team": "blue"}},
                }
            ],
        },
    ]


def test_a_companions_port_may_have_clients() -> None:
    proxy = dataclasses.replace(
        companion(), listeners=(Listener(9104, "metrics", clients=({"namespace": "blue"},)),)
    )
    (rule,) = own(application(companions=[proxy]))["ingress"]
    assert rule == {
        "ports": [{"port": 9104, "protocol": "TCP"}],
        "from": [selected({}, "blue")],
    }


def test_who_may_connect_to_a_loopback_address_is_refused() -> None:
    port = {"name": "admin", "port": 1, "address": "127.0.0.1", "clients": [{}]}
    with pytest.raises(
        InputError, match=r'^Application "web": ports\[1\].clients .* the pod\'s own'
    ):
        application(ports=[HTTP, port])


def test_what_is_reached_is_let_out_and_lets_in() -> None:
    graph = application(reaches=[reach()], hosting={"namespace": "here"})
    assert out(graph) == [
        {"ports": [{"port": 8080, "protocol": "TCP"}], "to": [selected({"app": "api"}, "there")]}
    ]
    there = policy(graph, "web-to-api")
    assert there["metadata"]["namespace"] == "there"
    assert there["spec"] == {
        "podSelector": {"matchLabels": {"app": "api"}},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"ports": [{"port": 8080, "protocol": "TCP"}], "from": [selected(WEB, "here")]}
        ],
    }


def test_without_namespaces_both_are_the_providers() -> None:
    graph = application(reaches=[reach(namespace=None)])
    assert out(graph)[0]["to"] == [selected({"app": "api"})]
    there = policy(graph, "web-to-api")
    assert there["metadata"]["namespace"] == "default"
    assert there["spec"]["ingress"][0]["from"] == [selected(WEB, "default")]


def test_pods_that_are_not_isolated_are_left_alone() -> None:
    """A policy of ours would shut out all that reached them before."""
    graph = application(reaches=[reach(isolated=False)])
    assert out(graph)
    assert len([body for body in objects(graph) if body["kind"] == "NetworkPolicy"]) == 1


def test_addresses_outside_the_cluster_are_let_out_to() -> None:
    outside = Reach.outside("https://api.example.org/", cidrs=["203.0.113.0/24", "2001:db8::/32"])
    graph = application(reaches=[outside])
    assert out(graph) == [
        {
            "ports": [{"port": 443, "protocol": "TCP"}],
            "to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}, {"ipBlock": {"cidr": "2001:db8::/32"}}],
        }
    ]


def test_a_companions_reaches_are_the_pods() -> None:
    graph = application(companions=[companion()])
    assert out(graph)[0]["to"] == [selected({"app": "proxy"}, "there")]
    assert policy(graph, "web-to-proxy")


def test_what_is_reached_twice_is_told_once() -> None:
    again = companion("api", 8080)
    graph = application(companions=[again], reaches=[reach()])
    names = [body["metadata"]["name"] for body in objects(graph) if body["kind"] == "NetworkPolicy"]
    assert len(names) == len(out(graph)) + 1 == 2


def test_several_paths_of_one_thing_are_one_connection() -> None:
    def program() -> None:
        api = Application("api", {"image": IMAGE, "ports": [HTTP]}).reach
        Application("web", {"image": IMAGE, "reaches": [api.at("/a"), api.at("/b")]})

    graph = build(program)
    assert len(out(graph)) == 1
    assert len([node for node in graph if node.name.startswith("web-to-")]) == 1


def test_two_stores_of_one_name_in_two_namespaces_are_both_reached() -> None:
    graph = application(reaches=[reach(), reach(namespace="elsewhere")])
    spaces = [policy(graph, name)["metadata"]["namespace"] for name in (
        "web-to-api", "web-to-api-2",
    )]  # fmt: skip
    assert spaces == ["there", "elsewhere"]


def test_a_workload_gives_its_own() -> None:
    made: list[Reach] = []

    def program() -> None:
        ports: Any = [
            {**HTTP, "service_port": 80, "app_protocol": "http"},
            {"name": "more", "port": 9},
        ]
        web = Application("web", {"image": IMAGE, "ports": ports, "hosting": {"namespace": "shop"}})
        made.extend([web.reach, web.port("more")])
        pulumi.export("endpoint", web.reach.endpoint)
        pulumi.export("url", web.reach.url)
        db = StatefulApplication("db", {"image": IMAGE, "ports": [{"name": "db", "port": 5432}]})
        pulumi.export("db", db.reach.endpoint)

    graph = build(program)
    service = next(body for body in objects(graph) if body["kind"] == "Service")
    name = service["metadata"]["name"]
    assert service["spec"]["ports"][0]["appProtocol"] == "http"
    assert "appProtocol" not in service["spec"]["ports"][1]
    assert graph.outputs[""] == {
        "endpoint": f"{name}.shop.svc:80",
        "url": f"http://{name}.shop.svc/",
        "db": "db.default.svc:5432",
    }
    first, more = made
    assert (first.pods, first.ports, first.isolated) == (WEB, (8080,), True)
    assert more.ports == (9,)


def test_a_port_that_no_service_offers_cannot_be_reached() -> None:
    def program() -> None:
        web = Application("web", {"image": IMAGE})
        with pytest.raises(InputError, match=r"ports is \[\]; must have one to be reached at"):
            print(web.reach)
        db = StatefulApplication("db", {"image": IMAGE, "ports": [{"name": "db", "port": 5432}]})
        with pytest.raises(InputError, match="ports is 'bd'; known are db"):
            db.port("bd")

    build(program)


def test_a_headless_service_translates_no_ports() -> None:
    ports: Any = [{"name": "db", "port": 5432, "service_port": 80}]
    with pytest.raises(InputError, match=r"ports\[0\].service_port is 80; must be left out"):
        build(lambda: StatefulApplication("db", {"image": IMAGE, "ports": ports}))


# Order


def test_a_client_comes_after_what_it_reaches_is_ready() -> None:
    def program() -> None:
        db = StatefulApplication("db", {"image": IMAGE, "ports": [{"name": "db", "port": 5432}]})
        proxy = dataclasses.replace(companion(), reaches=(db.reach,))
        Application("web", {"image": IMAGE, "companions": [proxy]})
        Task("job", {"image": IMAGE, "reaches": [db.reach]})

    graph = build(program)
    for kind in ("Deployment", "Job"):
        assert graph.one("StatefulSet").urn in graph.one(kind).dependencies


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "Job"])
def test_the_policies_are_there_before_the_pods(kind: str) -> None:
    args: Any = {"image": IMAGE, "reaches": [reach()]}
    components: dict[str, Callable[[], Any]] = {
        "Deployment": lambda: Application("web", args),
        "StatefulSet": lambda: StatefulApplication("web", args | {"ports": [HTTP]}),
        "Job": lambda: Task("web", args),
    }
    graph = build(components[kind])
    policies = {node.urn for node in graph if node.type.endswith(":NetworkPolicy")}
    assert len(policies) == 2
    assert policies <= set(graph.one(kind).dependencies)


# Where the cluster's own services are


def rules_of(network: dict[str, Any], **args: Any) -> list[dict[str, Any]]:
    def program() -> None:
        Application("web", {"image": IMAGE, **args})  # type: ignore[typeddict-item]

    graph = build(program, config={"dds:network": json.dumps(network)})
    rules: list[dict[str, Any]] = own(graph)["egress"]
    return rules


API: dict[str, Any] = {"rules": [Rule(resources=("configmaps",), verbs=("get",))]}


def test_the_way_to_the_api_server_is_open_for_pods_with_rules_only() -> None:
    assert out(application(**API)) == [
        {"ports": [{"port": 443, "protocol": "TCP"}, {"port": 6443, "protocol": "TCP"}]}
    ]
    proxy = dataclasses.replace(companion(), rules=tuple(API["rules"]), reaches=())
    assert out(application(companions=[proxy])) == out(application(**API))


def test_the_configuration_says_where_names_are_resolved_and_the_api_server_is() -> None:
    dns, api = rules_of(
        {
            "dns": [{"namespace": "openshift-dns"}, {"cidr": "169.254.20.10/32"}],
            "dns_ports": [5353],
            "api_server": [{"cidr": "192.0.2.1/32"}],
            "api_server_ports": [6443],
        },
        **API,
    )
    assert dns == {
        "ports": [{"port": 5353, "protocol": "UDP"}, {"port": 5353, "protocol": "TCP"}],
        "to": [selected({}, "openshift-dns"), {"ipBlock": {"cidr": "169.254.20.10/32"}}],
    }
    assert api == {
        "ports": [{"port": 6443, "protocol": "TCP"}],
        "to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}],
    }


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"dsn": []}, "dds:network: dsn is not an argument; did you mean dns"),
        ({"dns": []}, "dds:network: dns is .* must not be empty"),
        ({"dns": [{"cidr": "169.254.20.10"}]}, r"dns\[0\].cidr .* with its mask"),
        ({"api_server_ports": [0]}, r"api_server_ports\[0\] is 0; must be from 1 to 65535"),
        ([], "dds:network: args is .* must be a mapping"),
    ],
)
def test_a_configuration_that_cannot_be_right_is_refused(network: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rules_of(network)


# Every component


@pytest.mark.parametrize("example", EVERY.values(), ids=EVERY.keys())
def test_every_reach_among_the_arguments_is_open_on_both_sides(example: Example) -> None:
    found: list[Reach] = []

    def program() -> None:
        args = example.full()
        given = arguments(example.declaration, args)
        found.extend(each.value for each in given if isinstance(each.value, Reach))
        component = example.make("one", args)
        if isinstance(made := getattr(component, "companion", None), Companion):
            Application("host", {"image": IMAGE, "companions": [made]})

    graph = build(program)
    policies = [body["spec"] for body in objects(graph, "NetworkPolicy")]
    for one in found:
        if one.is_local:
            continue
        ports = [{"port": port, "protocol": one.protocol} for port in one.ports]
        if one.cidrs:
            end: list[Any] = [{"ipBlock": {"cidr": cidr}} for cidr in one.cidrs]
        else:
            end = [selected(dict(one.pods or {}), str(one.namespace or ""))]
        assert any({"ports": ports, "to": end} in spec.get("egress", ()) for spec in policies), (
            f"{one.name} cannot be reached"
        )
        if one.isolated:
            assert any(
                spec["podSelector"]["matchLabels"] == dict(one.pods or {})
                and spec["ingress"][0]["ports"] == ports
                for spec in policies
            ), f"{one.name} does not let it in"


def test_an_example_of_each_protocol_is_reached() -> None:
    """Or the test above would hold nothing."""
    spoken: set[str] = set()

    def program() -> None:
        for example in EVERY.values():
            for each in arguments(example.declaration, example.full()):
                if isinstance(each.value, Reach) and not each.value.is_local:
                    spoken.add(each.value.app_protocol)

    build(program)
    assert {"http", "https", "redis", "etcd", "nats", "mysql"} <= spoken


def test_no_argument_but_a_reach_says_where_something_is() -> None:
    """What is connected to by a text would have no way through the NetworkPolicies."""
    found: set[str] = set()

    def program() -> None:
        for example in EVERY.values():
            for each in arguments(example.declaration, example.full()):
                pulled = re.search(r"image|registry|overrides|^base$", each.path)
                if not pulled and any(isinstance(c, Address) for c in each.declared.constraints):
                    found.add(f"{example.component.__name__}: {each.path}")

    build(program)
    assert found == {
        # In the same pod.
        "ConfigSync: on_change.url",
        "Election: on_change.url",
        # A name that is verified.
        "ServiceBroker: tls.server_name",
    }
