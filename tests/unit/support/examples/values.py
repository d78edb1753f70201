"""Values that pass between components, each with every field."""

from typing import Any

from components.pods.companion import Companion, Listener, Rule
from components.values.edges import Edge
from components.values.metrics import Alert, Dashboard, Panel, ScrapeJob
from tests.unit.support.examples.example import IMAGE

VALUES: list[Any] = [
    Edge(ports=(80,), pods={"app": "web"}, namespace={"team": "blue"}, protocol="UDP"),
    Edge(ports=(80, 443), cidr="203.0.113.0/24"),
    Listener(8080, "http", "127.0.0.1", "TCP"),
    Rule(("leases",), ("get", "update"), "coordination.k8s.io", ("one",)),
    Companion(
        name="proxy",
        containers=({"name": "proxy", "image": IMAGE},),
        listeners=(Listener(6379, "redis"),),
        volumes=({"name": "data", "empty_dir": {"size_limit": "16Mi"}},),
        reloading=("data",),
        pod_labels={"dds/client-of-store": "true"},
        pod_annotations={"note": "x"},
        egress=(Edge(ports=(6379,), pods={"app": "redis"}),),
        ingress=(Edge(ports=(6379,), pods={}),),
        share_process_namespace=True,
        rules=(Rule(("configmaps",), ("get",)),),
    ),
    ScrapeJob("redis", "redis.here.svc", 9121, {"dds/metrics-of-redis": "true"}),
    Alert("RedisDown", "redis_up == 0", "{{ $labels.instance }} is down.", 30, "critical"),
    Panel("Memory", {"used {{instance}}": "redis_memory_used_bytes"}, "bytes"),
    Dashboard("Redis", [Panel("Up", {"{{instance}}": "redis_up"})]),
]
