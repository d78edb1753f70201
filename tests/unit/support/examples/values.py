"""Values that pass between components, each with every field; made in a running program."""

from collections.abc import Callable
from typing import Any

import pulumi

from components.pods.companion import Companion, Listener, Rule
from components.values.bus import BusTopology
from components.values.edges import Edge
from components.values.endpoint import Endpoint
from components.values.etcd import EtcdTopology, EtcdUser
from components.values.metrics import Alert, Dashboard, Panel, ScrapeJob
from components.values.redis_user import RedisUser
from components.values.targets import Target
from components.values.topology import Shard, Topology
from tests.unit.support.examples.example import IMAGE

VALUES: dict[str, Callable[[], Any]] = {
    "Edge of pods": lambda: Edge(
        ports=(80,), pods={"app": "web"}, namespace={"team": "blue"}, protocol="UDP"
    ),
    "Edge of a network": lambda: Edge(ports=(80, 443), cidr="203.0.113.0/24"),
    "Listener": lambda: Listener(8080, "http", "127.0.0.1", "TCP"),
    "Rule": lambda: Rule(("leases",), ("get", "update"), "coordination.k8s.io", ("one",)),
    "Companion": lambda: Companion(
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
    "ScrapeJob": lambda: ScrapeJob(
        "redis", "redis.here.svc", 9121, {"dds/metrics-of-redis": "true"}
    ),
    "Alert": lambda: Alert(
        "RedisDown", "redis_up == 0", "{{ $labels.instance }} is down.", 30, "critical"
    ),
    "Panel": lambda: Panel("Memory", {"used {{instance}}": "redis_memory_used_bytes"}, "bytes"),
    "Dashboard": lambda: Dashboard("Redis", [Panel("Up", {"{{instance}}": "redis_up"})]),
    "Shard": lambda: Shard("a", "host-a", 6379),
    "Topology": lambda: Topology(
        name="cache",
        shards=(Shard("a", "host-a", 6379), Shard("b", "host-b", 6379)),
        protocol="redis",
        client_label=("dds/client-of-cache", "true"),
        server_labels={"app": "cache"},
        hash_tag="{}",
    ),
    "Endpoint": lambda: Endpoint("web", 80),
    "Target": lambda: Target("http://web.shop.svc:80/", Edge(ports=(80,), pods={})),
    "EtcdTopology": lambda: EtcdTopology(
        name="etcd",
        endpoints=("https://etcd-0:2379",),
        authority=pulumi.Output.from_input("-----BEGIN CERTIFICATE-----\n"),
        client_label=("dds/client-of-etcd", "true"),
        server_labels={"app": "etcd"},
        port=2379,
    ),
    "EtcdUser": lambda: EtcdUser("shop", pulumi.Output.secret("swordfish-long"), "/shop/"),
    "BusTopology": lambda: BusTopology(
        name="bus",
        server="bus-client:4222",
        port=4222,
        username="client",
        password=pulumi.Output.secret("swordfish-long"),
        client_label=("dds/client-of-bus", "true"),
        delivery_label=("dds/delivers-for-bus", "true"),
        server_labels={"app": "bus"},
    ),
    "RedisUser": lambda: RedisUser(
        name="metrics",
        rules=("+info", "-@all", "~key:*", "%R~key:*", "+slowlog|get", "resetkeys"),
        password=pulumi.Output.secret("swordfish-long"),
    ),
}
