"""The pod's processes and nobody else's, as a page and as JSON."""

import json
import secrets
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.live.support.cluster import Cluster
from tests.live.support.nodes import Nodes
from tests.live.support.observed import Record
from tests.live.support.split import Split
from tests.live.support.stacks import PROGRAMS, throwaway
from tests.live.support.waiting import eventually
from tests.ports import free_port

PORT = 8079
COUNTER = "python3 /opt/examples/counter.py"


def listed(split: Split, **query: str) -> list[dict[str, Any]]:
    words = "&".join(f"{key}={value}" for key, value in query.items())
    address = split.pod("inside").address
    answer = split.ask("visitor", "get", host=address, port=PORT, path=f"/topz.json?{words}")
    assert answer["status"] == 200, answer
    processes: list[dict[str, Any]] = json.loads(answer["body"])["processes"]
    return processes


def test_the_applications_process_is_listed_with_cpu_and_memory(split: Split) -> None:
    (counter,) = (p for p in listed(split) if p["command"] == COUNTER)
    assert counter["cpu_seconds"] > 0
    # The kernel's own figure, from the application's container.
    status = split.kube.run(
        split.pod("inside"), "counter", ["cat", f"/proc/{counter['pid']}/status"]
    )
    resident = next(int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line)
    assert counter["memory_bytes"] == pytest.approx(resident * 1024, rel=0.2)
    assert counter["user"] == 10001


def test_who_is_busy_stands_first(split: Split) -> None:
    # By its own processor time, which a busy machine may give it slowly.
    busy = "import time\nwhile time.process_time() < 60: pass  # busy-one"
    pod = split.pod("inside")
    running = split.kube.start(pod, "counter", ["python3", "-c", busy])

    def first() -> bool:
        top = listed(split)[0]
        return "busy-one" in top["command"] and top["cpu_percent"] > 5

    try:
        eventually(first, 30, lambda: f"the busy process is the first: {listed(split)[:2]}")
        by_memory = [p["memory_bytes"] for p in listed(split, sort="memory")]
        assert by_memory == sorted(by_memory, reverse=True)
    finally:
        # By the number that it shows: one namespace, and one user.
        (one,) = (p["pid"] for p in listed(split) if "busy-one" in p["command"])
        split.kube.run(pod, "counter", ["sh", "-c", f"kill {one}"])
        running.stop()


def test_it_sees_the_processes_of_its_pod_and_no_other(split: Split) -> None:
    pod = split.pod("inside")
    commands = {process["command"] for process in listed(split)}
    programs = {command.split()[0].rpartition("/")[2] for command in commands}
    # Each container of the pod has its program among them, and nothing else is.
    assert programs <= {"pause", "python3", "haproxy", "cat", "sh", "awk", "env"}, commands
    assert {"python3", "haproxy"} <= programs
    assert COUNTER in commands
    assert any("companions.topz" in command for command in commands)
    # On its node there are more, which is what it would see without a namespace of its own.
    everything = split.nodes.run(pod.node, "cat /proc/[0-9]*/comm 2>/dev/null | sort -u").split()
    assert "containerd" in everything
    assert "kubelet" in everything or "k3s-agent" in everything or "k3s-server" in everything


def test_there_is_a_page_for_people(split: Split) -> None:
    address = split.pod("inside").address
    answer = split.ask("visitor", "get", host=address, port=PORT, path="/topz")
    assert answer["headers"]["content-type"].startswith("text/html")
    assert f"<td>{COUNTER}</td>" in answer["body"]
    bad = split.ask("visitor", "get", host=address, port=PORT, path="/topz?sort=size")
    assert bad["status"] == 400


def test_it_binds_what_it_is_told(split: Split) -> None:
    """``address: 127.0.0.1`` is for the pod only; the book's image ignored its ``--addr``."""
    pod = split.pod("outside")
    program = (
        "import socket,sys\nfor host in sys.argv[1:]:\n"
        "    print(socket.socket().connect_ex((host, 8078)))"
    )
    addresses = ["127.0.0.1", pod.address]
    said = split.kube.run(pod, "counter", ["python3", "-c", program, *addresses]).split()
    assert (said[0], said[1] != "0") == ("0", True), said


def test_killed_or_paused_the_application_goes_on(split: Split, record: Record) -> None:
    pod = split.pod("inside")
    with split.nodes.paused(pod, "top"):
        load = split.start(
            "visitor", "load", host=pod.address, port=8080, path="/hits/topz", seconds=4
        )
        outcomes = json.loads(load.output())["outcomes"]
        assert set(outcomes) == {"status 200"}, outcomes
        # Nothing that an application needs is away, so the pod stays ready.
        assert split.now("inside").ready
    load = split.start("visitor", "load", host=pod.address, port=8080, path="/hits/t", seconds=4)
    time.sleep(0.5)
    split.nodes.kill(pod, "top")
    outcomes = json.loads(load.output())["outcomes"]
    assert set(outcomes) == {"status 200"}, outcomes
    after = split.kube.restarted(pod, "top")
    eventually(lambda: bool(listed(split)), 20, "it answers again")
    assert after.restarts["counter"] == pod.restarts["counter"]
    record.note("topz: killed", hits=outcomes)


def test_with_plain_docker_it_shares_the_process_namespace_of_one_container(
    split: Split, cluster: Cluster, nodes: Nodes, tmp_path: Path
) -> None:
    instance = f"{cluster.instance}-{secrets.token_hex(2)}"
    with throwaway(cluster, PROGRAMS / "topz", tmp_path / "stack") as stack:
        stack.up(
            registry=cluster.registry,
            instance=instance,
            port=free_port(),
            images={name: split.images[name] for name in ("redis", "companions")},
        )
        url = stack.outputs()["endpoint"]

        def both() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = requests.get(f"{url}.json", timeout=20).json()[
                "processes"
            ]
            # Its own health check, a process in the same namespace, comes and goes.
            programs = sorted(p["command"].split()[0] for p in found)
            assert programs == ["python3", "redis-server"], found
            return found

        processes = eventually(both, 30, "it lists two programs", 0.7)
        redis = next(p for p in processes if p["name"] == "redis-server")
        assert redis["pid"] == 1
        assert redis["memory_bytes"] > 1 << 20
    left = nodes.docker.containers.list(all=True, filters={"name": instance})
    assert not left
