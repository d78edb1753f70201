"""One application, a database at localhost, wherever that is."""

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from dds_patterns import Reach, ServiceBroker
from tests.live.support.kube import Pod
from tests.live.support.observed import Record
from tests.live.support.split import Rolled, Split
from tests.live.support.waiting import eventually
from toolchain.graph import build

FAST = 3.0
"""Seconds; what an open breaker answers within also on a busy machine, below every timeout."""


@pytest.fixture(scope="module", autouse=True)
def not_yet(split: Split) -> None:
    """The name that a broker is told exists from now on; it has started without."""
    before = ping(split, "inside", 6380)
    split.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "not-yet", "namespace": split.namespace},
            "spec": {
                "selector": {"app.kubernetes.io/instance": "database"},
                "ports": [{"port": 6379}],
            },
        }
    )
    assert before != "+PONG", before


def ping(split: Split, instance: str, port: int) -> str:
    """The answer to PING, from the application's container; empty if the connection was closed."""
    program = (
        "import socket,sys\n"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)\n"
        "try:\n"
        "    s.sendall(b'PING\\r\\n'); print(s.recv(64).decode().strip())\n"
        "except OSError: pass\n"
    )
    pod = split.pod(instance)
    return split.kube.run(pod, "counter", ["python3", "-c", program, str(port)]).strip()


def hit(split: Split, pod: Pod, name: str, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = split.ask(
        "visitor", "get", host=pod.address, port=8080, path=f"/hits/{name}", **more
    )
    return answer


def test_the_same_application_has_its_database_in_the_cluster_and_outside(split: Split) -> None:
    inside, outside = split.pod("inside"), split.pod("outside")
    told = [
        next(
            (c.image, c.command, c.args, c.env)
            for c in split.kube.core.read_namespaced_pod(pod.name, split.namespace).spec.containers
            if c.name == "counter"
        )
        for pod in (inside, outside)
    ]
    assert told[0] == told[1]
    for pod, times in ((inside, 2), (outside, 3)):
        for _ in range(times):
            answer = hit(split, pod, "placed")
            assert answer.get("status") == 200, answer
    database = split.pod("database")
    here = split.kube.run(database, "database", ["redis-cli", "get", "hits:placed"]).strip()
    assert (here, split.outside.cli("get", "hits:placed")) == ("2", "3")


def test_a_certificate_with_another_name_is_refused(split: Split) -> None:
    eventually(lambda: ping(split, "outside", 6379) == "+PONG", 20, "the right name is served")
    assert ping(split, "outside", 6380) == ""
    text = split.ask(
        "visitor", "get", host=split.pod("outside").address, port=8406, path="/metrics"
    )["body"]
    assert 'haproxy_server_status{proxy="backend",server="backend",state="DOWN"} 1' in text
    assert 'state="UP"} 0' in text


def test_what_hangs_opens_the_breaker_and_what_is_back_closes_it(
    split: Split, record: Record
) -> None:
    pod, database = split.pod("inside"), split.pod("database")
    assert hit(split, pod, "broken")["status"] == 200
    with split.nodes.paused(database, "database"):
        began = time.monotonic()
        eventually(
            lambda: hit(split, pod, "broken", timeout=8)["seconds"] < FAST, 60, "it fails fast"
        )
        opened = time.monotonic() - began
        quick = [hit(split, pod, "broken") for _ in range(5)]
        assert {answer["status"] for answer in quick} == {503}, quick
        assert max(answer["seconds"] for answer in quick) < FAST, quick
        alive = split.ask("visitor", "get", host=pod.address, port=8080, path="/livez")
        assert alive["status"] == 200
        # Its readiness asks the database through the broker, and says what is true.
        eventually(lambda: not split.now("inside").ready, 60, "the application is not ready")
    back = time.monotonic()
    eventually(lambda: hit(split, pod, "broken").get("status") == 200, 30, "it is served again")
    closed = time.monotonic() - back
    split.pod("inside")
    record.note(
        "broker: database paused",
        seconds_until_open=round(opened, 1),
        slowest_while_open=round(max(answer["seconds"] for answer in quick), 3),
        seconds_until_closed=round(closed, 1),
    )


def test_a_database_that_restarts_is_waited_for(split: Split, record: Record) -> None:
    pod, database = split.pod("inside"), split.pod("database")
    load = split.start(
        "visitor", "load", host=pod.address, port=8080, path="/hits/again", seconds=8, pause=0.1
    )
    time.sleep(1)
    split.nodes.kill(database, "database")
    outcomes = json.loads(load.output())["outcomes"]
    assert set(outcomes) <= {"status 200", "status 503"}, outcomes
    # How soon the database runs again is the kubelet's business; then it is served.
    split.kube.restarted(database, "database")
    eventually(lambda: hit(split, pod, "again").get("status") == 200, 30, "it is served again")
    record.note("broker: database killed", outcomes=outcomes)


def test_a_rolling_update_under_load_fails_no_request(rolled: Rolled, record: Record) -> None:
    """Of the application, with its database in the cluster and outside."""
    for instance in ("inside", "outside"):
        hits = rolled[instance]
        assert set(hits["outcomes"]) == {"status 200"}, rolled
        record.note(f"broker: rolling update, database {instance}", hits=hits["outcomes"])


def test_killed_the_application_goes_on(split: Split, record: Record) -> None:
    pod = split.pod("inside")
    alive = split.start("visitor", "load", host=pod.address, port=8080, path="/livez", seconds=5)
    hits = split.start("visitor", "load", host=pod.address, port=8080, path="/hits/k", seconds=5)
    time.sleep(1)
    split.nodes.kill(pod, "broker")
    assert set(json.loads(alive.output())["outcomes"]) == {"status 200"}
    outcomes = json.loads(hits.output())["outcomes"]
    assert set(outcomes) <= {"status 200", "status 503"}, outcomes
    after = split.kube.restarted(pod, "broker")
    eventually(lambda: hit(split, pod, "k").get("status") == 200, 30, "it is served again")
    assert after.restarts["counter"] == pod.restarts["counter"]
    record.note("broker: killed", hits=outcomes)


def test_paused_the_pod_says_that_it_is_not_ready(split: Split) -> None:
    pod = split.pod("inside")
    with split.nodes.paused(pod, "broker"):
        eventually(lambda: not split.now("inside").ready, 40, "the pod is not ready")
        alive = split.ask("visitor", "get", host=pod.address, port=8080, path="/livez")
        assert alive.get("status") == 200, alive
    assert split.pod("inside").restarts == pod.restarts


def test_a_name_that_comes_later_is_served_without_a_restart(split: Split) -> None:
    # The name service remembers for up to 30 s that there was no such name.
    def served() -> bool:
        return ping(split, "inside", 6380) == "+PONG"

    eventually(served, 60, "the new name is served", interval=1)
    assert split.pod("inside").restarts["early"] == 0


def reached(endpoint: str) -> Reach:
    return Reach("db", (endpoint,), pods={})


VARIANTS: list[Mapping[str, Any]] = [
    {},
    {"check": "redis"},
    {"retries": 0, "breaker": {"failures": 1, "probe_ms": 100, "recoveries": 5}},
    {"backend": reached("web.shop.svc:80")},
    {"backend": reached("[fd00::1]:80")},
    {"backend": reached("www.example.com:443"), "tls": {}},
    {"backend": reached("10.0.0.1:5432"), "tls": {"server_name": "db.example.com"}},
]


def configuration(variant: Mapping[str, Any]) -> str:
    args: Any = {
        "image": "haproxy:1", "listen_port": 6379, "backend": reached("db:6379"), **variant,
    }  # fmt: skip

    def program() -> None:
        ServiceBroker("broker", args)

    graph = build(program)
    text: str = next(
        node.inputs["data"]["haproxy.cfg"]
        for node in graph
        if "haproxy.cfg" in (node.inputs.get("data") or {})
    )
    return text


def test_haproxy_finds_every_variant_good(split: Split) -> None:
    variables = ["env", "NAMESPACE=shop", "CLUSTER_DOMAIN=cluster.local"]

    def accepted(text: str) -> str:
        command = [*variables, "haproxy", "-c", "-f", "FILE"]
        return split.checked("inside", "broker", text, command)

    for variant in VARIANTS:
        assert "Configuration file is valid" in accepted(configuration(variant)), variant
    assert "valid" not in accepted(configuration({}).replace("error-limit", "error-limits"))
