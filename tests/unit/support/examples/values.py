"""Values that pass between components, each with every field; made in a running program."""

from collections.abc import Callable
from typing import Any

import pulumi

from dds_patterns.pods.companion import Companion, Listener, Rule
from dds_patterns.values.endpoint import Endpoint
from dds_patterns.values.metrics import Alert, Dashboard, Panel, ScrapeJob
from dds_patterns.values.reach import Credentials, Reach
from dds_patterns.values.redis_user import RedisUser
from dds_patterns.values.topology import Topology
from tests.unit.support.examples.example import CERTIFICATE, IMAGE, issuer, reach

VALUES: dict[str, Callable[[], Any]] = {
    "Reach of pods": lambda: Reach(
        name="store",
        endpoints=("store-0.here.svc:6379", "store-1.here.svc:6379"),
        pods={"app": "store"},
        namespace="here",
        ports=(6379,),
        protocol="TCP",
        app_protocol="redis",
        path="/keys",
        authority=CERTIFICATE,
        credentials=Credentials("swordfish"),
        topology=Topology(("a", "b")),
        isolated=True,
    ),
    "Reach of addresses": lambda: Reach(
        "api", ("api.example.org:443",), cidrs=("203.0.113.0/24",), app_protocol="https"
    ),
    "Credentials": lambda: Credentials(pulumi.Output.secret("swordfish"), "client"),
    "Issuer": issuer,
    "Topology": lambda: Topology(("a", "b"), "md5", "{}"),
    "Listener": lambda: Listener(
        8080, "http", "10.0.0.1", "TCP", ({"pods": {"role": "x"}, "namespace": "blue"},)
    ),
    "Rule": lambda: Rule(("leases",), ("get", "update"), "coordination.k8s.io", ("one",)),
    "Companion": lambda: Companion(
        name="proxy",
        containers=({"name": "proxy", "image": IMAGE},),
        listeners=(Listener(6379, "redis"),),
        volumes=({"name": "data", "empty_dir": {"size_limit": "16Mi"}},),
        reloading=("data",),
        pod_labels={"dds/metrics-of-store": "true"},
        pod_annotations={"note": "x"},
        reaches=(reach(),),
        share_process_namespace=True,
        rules=(Rule(("configmaps",), ("get",)),),
    ),
    "ScrapeJob": lambda: ScrapeJob("redis", reach()),
    "Alert": lambda: Alert(
        "RedisDown", "redis_up == 0", "{{ $labels.instance }} is down.", 30, "critical"
    ),
    "Panel": lambda: Panel("Memory", {"used {{instance}}": "redis_memory_used_bytes"}, "bytes"),
    "Dashboard": lambda: Dashboard("Redis", [Panel("Up", {"{{instance}}": "redis_up"})]),
    "Endpoint": lambda: Endpoint("web", 80),
    "RedisUser": lambda: RedisUser(
        name="metrics",
        rules=("+info", "-@all", "~key:*", "%R~key:*", "+slowlog|get", "resetkeys"),
        password=pulumi.Output.secret("swordfish-long"),
        former=pulumi.Output.secret("swordfish-of-last-year"),
    ),
}
