"""Prometheus: what it scrapes, and the alarms and dashboards that are written for it."""

import json
import re
from typing import Any

import pulumi
import pytest
import yaml

from dds_patterns import (
    MetricsExporter,
    MySqlHealth,
    Prometheus,
    RedisExporter,
)
from dds_patterns.arguments.errors import InputError
from dds_patterns.values.metrics import Alert, Dashboard, Panel, ScrapeJob, rules_yaml
from dds_patterns.values.reach import Reach
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates
from tests.unit.support.refusals import refused
from toolchain.graph import build

IMAGE = "registry.example/companions:1.0"


def test_prometheus_scrapes_what_it_is_given_and_finds_it_by_name() -> None:
    def program() -> None:
        exporter = RedisExporter("metrics", {"image": IMAGE, "hosting": {"namespace": "here"}})
        prometheus = Prometheus(
            "prometheus",
            {
                "image": IMAGE,
                "jobs": [exporter.job],
                "alerts": exporter.alerts,
                "scrape_interval_seconds": 3,
                "clients": [{"pods": {"role": "operator"}}],
                "hosting": {
                    "namespace": "here",
                    "storage": {"size": "1Gi", "storage_class": "fast"},
                },
            },
        )
        pulumi.export("config", prometheus.config)
        pulumi.export("endpoint", prometheus.reach.endpoint)

    graph = build(program)
    assert_valid(objects(graph))
    config = yaml.safe_load(graph.outputs[""]["config"])
    assert config["global"]["scrape_interval"] == "3s"
    assert config["global"]["scrape_timeout"] == "3s"
    assert graph.outputs[""]["endpoint"] == "prometheus.here.svc:9090"
    (job,) = config["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert job["dns_sd_configs"][0]["port"] == 9121
    service = next(s for s in objects(graph, "Service") if s["metadata"]["name"] != "prometheus")
    assert job["dns_sd_configs"][0]["names"] == [f"{service['metadata']['name']}.here.svc"]
    (template,) = templates(graph)
    assert violations(template) == []
    own, _ = objects(graph, "NetworkPolicy")
    (rule,) = own["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"role": "operator"}}}]


def test_prometheus_scrapes_across_namespaces() -> None:
    def program() -> None:
        cache = MetricsExporter(
            "cache", {"image": IMAGE, "kind": "memcached", "hosting": {"namespace": "shop"}}
        )
        health = MySqlHealth("database", {"image": IMAGE, "hosting": {"namespace": "store"}})
        Prometheus(
            "prometheus",
            {
                "image": IMAGE,
                "jobs": [cache.job, health.job],
                "hosting": {"namespace": "watch"},
            },
        )

    own, *others = objects(build(program), "NetworkPolicy")
    assert own["metadata"]["namespace"] == "watch"
    assert [policy["metadata"]["namespace"] for policy in others] == ["shop", "store"]
    for policy, name, port in zip(others, ("cache", "database"), (9150, 9104), strict=True):
        pods = {"matchLabels": {f"dds/metrics-of-{name}": "true"}}
        ports = [{"port": port, "protocol": "TCP"}]
        assert policy["spec"]["podSelector"] == pods
        assert policy["spec"]["policyTypes"] == ["Ingress"]
        (rule,) = policy["spec"]["ingress"]
        assert rule["ports"] == ports
        assert rule["from"] == [
            {
                "podSelector": own["spec"]["podSelector"],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "watch"}},
            }
        ]
        there = {"kubernetes.io/metadata.name": policy["metadata"]["namespace"]}
        end = {"podSelector": pods, "namespaceSelector": {"matchLabels": there}}
        assert {"ports": ports, "to": [end]} in own["spec"]["egress"]


def test_prometheus_asks_each_address_and_path_of_a_job() -> None:
    def program() -> None:
        reach = Reach(
            "bus", ("bus-0.shop.svc:8222", "bus-1.shop.svc:8222"), pods={}, path="/stats",
            app_protocol="http",
        )  # fmt: skip
        prometheus = Prometheus("prometheus", {"image": IMAGE, "jobs": [ScrapeJob("bus", reach)]})
        pulumi.export("config", prometheus.config)

    (job,) = yaml.safe_load(build(program).outputs[""]["config"])["scrape_configs"]
    assert job["metrics_path"] == "/stats"
    assert [(found["names"], found["port"]) for found in job["dns_sd_configs"]] == [
        (["bus-0.shop.svc"], 8222),
        (["bus-1.shop.svc"], 8222),
    ]


JOB = ScrapeJob("a", Reach("a", ("a.svc:9121",), pods={"app": "a"}))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"jobs": []}, "jobs is []; must not be empty"),
        ({"jobs": [JOB, JOB]}, "is listed twice"),
        ({"hosting": {"storage": {"size": "x"}}}, "hosting.storage.size is 'x'; must be"),
        ({"job": 1}, "did you mean jobs"),
    ],
)
def test_prometheus_refuses(change: dict[str, Any], expected: str) -> None:
    assert expected in refused(
        lambda: Prometheus("prometheus", {"image": IMAGE, "jobs": [JOB], **change})  # type: ignore[typeddict-item]
    )


def test_alarms_and_dashboards_are_checked_and_written() -> None:
    alert = Alert("RedisDown", "redis_up == 0", "Redis is down.", 30, "critical")
    (group,) = yaml.safe_load(rules_yaml([alert]))["groups"]
    assert group["rules"] == [
        {
            "alert": "RedisDown",
            "expr": "redis_up == 0",
            "for": "30s",
            "labels": {"severity": "critical"},
            "annotations": {"summary": "Redis is down."},
        }
    ]
    panels = [Panel("A", {"x": "up"}), Panel("B", {"y": "up", "z": "down"}), Panel("C", {"x": "u"})]
    dashboard = json.loads(Dashboard("Redis: one", panels).json())
    assert dashboard["uid"] == "redis-one"
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert places == [(0, 0), (12, 0), (0, 7)]
    assert [t["refId"] for t in dashboard["panels"][1]["targets"]] == ["A", "B"]
    for wrong in (
        lambda: Alert("redis down", "x", "y"),
        lambda: Alert("A", " ", "y"),
        lambda: Alert("A", "x", "y", -1),
        lambda: Alert("A", "x", "y", 1, "fatal"),
        lambda: ScrapeJob("a b", JOB.reach),
        lambda: ScrapeJob("a", "x:1"),  # type: ignore[arg-type]
        lambda: ScrapeJob("a", Reach.local(1, app_protocol="https")),
        lambda: Alert("A", "x", "of {{ $labels.instance"),
        lambda: Alert("A", "x", "y", True),
        lambda: Panel("A", {}),
        lambda: Panel("A", {str(number): "up" for number in range(27)}),
        lambda: Panel("A", {"x": " "}),
        lambda: Dashboard("A", "panels"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError):
            wrong()


@pytest.mark.parametrize("kind", ["memcached", "nginx", "twemproxy"])
def test_dashboards_and_alarms_speak_of_their_own_job_only(kind: str) -> None:
    found: list[Any] = []

    def program() -> None:
        found.append(MetricsExporter("mine", {"image": IMAGE, "kind": kind}))

    build(program)
    (exporter,) = found
    expressions = [a.expression for a in exporter.alerts]
    for panel in json.loads(exporter.dashboard)["panels"]:
        expressions += [target["expr"] for target in panel["targets"]]
    for expression in expressions:
        assert re.findall(r'\{job="(\w+)"\}', expression), expression
        assert set(re.findall(r'\{job="(\w+)"\}', expression)) == {"mine"}
