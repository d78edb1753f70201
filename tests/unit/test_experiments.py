"""The compositions ``experiments``, ``companions`` and ``topz``."""

import json
from typing import Any

import pulumi
import pytest

from dds_patterns import Hosting, RequestSplitter
from dds_patterns.arguments.errors import InputError
from dds_patterns.values.reach import Reach
from stacks import companions, deploy
from stacks.settings import Settings
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates
from toolchain.graph import Graph, Secret, build

CLUSTER = {"kubeconfig": Secret("kubeconfig-of-the-cluster"), "registry": "localhost:5000"}
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]


def made(stack: str, config: dict[str, str] | None = None, *, preview: bool = False) -> Graph:
    return build(
        lambda: deploy(Settings.load()),
        preview=preview,
        stack=stack,
        config=config,
        references={"organization/dds/cluster": CLUSTER},
    )


@pytest.mark.parametrize(
    ("stack", "config"),
    [
        ("experiments", {}),
        ("experiments", {"dds:percent": "0"}),
        ("experiments", {"dds:policy": "seed"}),
        ("experiments", {"dds:database": "203.0.113.7:6379"}),
        ("experiments", {"dds:database": "db.example.com:6379"}),
        ("experiments", {"dds:database": "redis.shop.svc:6379"}),
        ("experiments", {"dds:database": "db.example.com:6379", "dds:database_tls": "true"}),
        ("companions", {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("preview", MODES)
def test_everything_is_valid_hardened_and_in_the_namespace(
    stack: str, config: dict[str, str], preview: bool
) -> None:
    graph = made(stack, config, preview=preview)
    bodies = objects(graph)
    assert len(bodies) > 10
    assert "try" in graph.outputs[""]
    if preview:
        return
    assert_valid(bodies)
    assert {b["metadata"]["namespace"] for b in bodies if b["kind"] != "Namespace"} == {stack}
    for template in templates(graph):
        job = template["spec"]["restartPolicy"] == "Never"
        # See test_sharded_redis for why shards do not drain.
        assert set(violations(template, restarts=not job)) <= {"redis: no drain"}


def container(graph: Graph, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        one
        for template in templates(graph)
        for one in template["spec"]["containers"]
        if one["name"] == name
    )
    return found


def test_the_application_is_the_same_wherever_its_database_is() -> None:
    inside = made("experiments")
    outside = made("experiments", {"dds:database": "203.0.113.7:6379"})
    assert container(inside, "counter") == container(outside, "counter")
    assert not [b for b in objects(outside, "Deployment") if "database" in b["metadata"]["name"]]


@pytest.mark.parametrize(
    ("database", "peers"),
    [
        ("203.0.113.7:6380", [{"ipBlock": {"cidr": "203.0.113.7/32"}}]),
        ("[fd00::7]:6380", [{"ipBlock": {"cidr": "fd00::7/128"}}]),
        (
            "db.example.com:6380",
            [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}],
        ),
        (
            "redis.shop.svc:6380",
            [
                {
                    "podSelector": {"matchLabels": {}},
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
                }
            ],
        ),
        ("redis:6380", [{"podSelector": {"matchLabels": {}}}]),
    ],
)
def test_only_the_database_that_is_given_is_reached(database: str, peers: object) -> None:
    graph = made("experiments", {"dds:database": database})
    rules = [
        rule
        for policy in objects(graph, "NetworkPolicy")
        for rule in policy["spec"].get("egress", ())
        if rule["ports"] == [{"port": 6380, "protocol": "TCP"}]
    ]
    assert rules
    assert all(rule.get("to") == peers for rule in rules)


def test_only_what_has_the_companions_reaches_arms_and_database() -> None:
    """They let nobody in themselves; a policy of each client does."""
    let_in = {
        node.name: node.inputs["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/instance"]
        for node in made("experiments").all("NetworkPolicy")
        if "-to-" in node.name
    }
    assert let_in == {
        f"{client}-to-{server}": server
        for client, servers in {
            "front": ("control", "experiment"),
            "counter": ("database",),
            "experiments-check": ("control", "experiment", "database"),
        }.items()
        for server in servers
    }


@pytest.mark.parametrize("policy", ["default", "seed"])
def test_front_and_check_come_after_both_arms(policy: str) -> None:
    graph = made("experiments", {"dds:policy": policy})
    arms = {graph.one("Deployment", name).urn for name in ("control", "experiment")}
    for client in (graph.one("Deployment", "front"), graph.one("Job", "experiments-check")):
        assert arms <= set(client.dependencies)


def test_the_database_outside_is_spoken_to_over_tls() -> None:
    config = {
        "dds:database": "203.0.113.7:6380",
        "dds:database_tls": "true",
        "dds:database_server_name": "db.example.com",
        "dds:database_authority": "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n",
    }
    graph = made("experiments", config)
    assert container(graph, "counter") == container(made("experiments"), "counter")
    (files,) = [b["data"] for b in objects(graph, "ConfigMap") if "haproxy.cfg" in b["data"]]
    assert "ssl verify required" in files["haproxy.cfg"]
    assert "verifyhost db.example.com" in files["haproxy.cfg"]
    assert files["ca.pem"] == config["dds:database_authority"]


def test_the_check_has_the_same_companions() -> None:
    graph = made("experiments", {"dds:percent": "25"})
    job = next(t for t in templates(graph) if t["spec"]["restartPolicy"] == "Never")
    names = {c["name"] for c in job["spec"]["initContainers"]}
    assert names == {"splitter", "splitter-metrics", "broker"}
    (check,) = job["spec"]["containers"]
    plan = json.loads(next(e["value"] for e in check["env"] if e["name"] == "PLAN"))
    assert plan == {
        "splitter": "127.0.0.1:8080",
        "database": "127.0.0.1:6379",
        "percent": 25,
        "policy": "default",
    }


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"dds:percent": "101"}, "dds:percent is 101; must be from 0 to 100"),
        ({"dds:percent": "many"}, "must be a number"),
        ({"dds:database": "redis"}, "dds:database is 'redis'; must be host:port"),
        ({"dds:database": "localhost:6379"}, r"endpoints \(dds:database\) is 'localhost:6379'"),
        ({"dds:database": "redis.SHOP:6379"}, r"namespace \(dds:database\) is 'SHOP'"),
        ({"dds:database_tls": "true"}, "dds:database_tls .* no effect without dds:database"),
        (
            {"dds:database": "db.example.com:1", "dds:database_server_name": "db"},
            "database_server_name .* no effect without dds:database_tls",
        ),
        (
            {"dds:database": "203.0.113.7:6379", "dds:database_tls": "true"},
            "dds:database_server_name is None; must be given with dds:database_tls",
        ),
    ],
)
def test_bad_configuration_is_refused(config: dict[str, str], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        made("experiments", config)


def test_four_companions_of_different_patterns_are_on_one_pod() -> None:
    graph = made("companions")
    template = next(t for t in templates(graph) if t["spec"]["containers"][0]["name"] == "counter")
    names = [c["name"] for c in template["spec"]["initContainers"]]
    assert names == ["twemproxy", "twemproxy-metrics", "tls", "topz"]
    assert template["spec"]["shareProcessNamespace"] is True


@pytest.mark.parametrize("port", [8443, 8079, 22222])
@pytest.mark.parametrize("preview", MODES)
def test_a_fifth_on_a_taken_port_is_refused(port: int, preview: bool) -> None:
    images = {name: f"registry.example/{name}:1" for name in companions.IMAGES}

    def program() -> None:
        arm = Reach("web", ("web:80",), pods={})
        fifth = RequestSplitter(
            "split",
            {
                "image": images["nginx"],
                "metrics_image": images["companions"],
                "control": arm,
                "experiment": arm,
                "listen_port": port,
                "status_port": 9081,
            },
        )
        hosting: Hosting = {"namespace": "here", "images": images}
        companions.make(hosting, pulumi.ResourceOptions(), more=[fifth.companion])

    with pytest.raises(InputError, match=f"127.0.0.1:{port}'; must be free"):
        build(program, preview=preview)


@pytest.mark.parametrize("preview", MODES)
def test_plain_docker_shares_the_process_namespace(preview: bool) -> None:
    graph = made("topz", {"dds:topz_port": "12345"}, preview=preview)
    application = graph.one("Container", "application")
    topz = graph.one("Container", "topz")
    assert application.urn in topz.dependencies
    assert topz.inputs["ports"] == [{"external": 12345, "internal": 8080, "ip": "127.0.0.1"}]
    if not preview:
        assert topz.inputs["pidMode"].startswith("container:")
