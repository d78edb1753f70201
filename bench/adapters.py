"""The cost of an adapter beside the program that it adapts: memory and CPU, idle and under load."""

import json
import statistics
import time

from bench.figures import Figure, Ratio
from bench.ground import Ground, ground
from bench.usage import WINDOW_SECONDS, Watched
from stacks.adapters import IMAGES
from tests.live.support.kube import Exec, InPod
from tests.live.support.stacks import PROGRAMS

INTERVAL = 5
SETTLE_SECONDS = 30
PAIRS = {
    "redis-metrics": "redis",
    "redis-logs": "redis",
    "twemproxy-metrics": "twemproxy",
    "web-metrics": "web",
    "web-logs": "web",
    "memcached-metrics": "memcached",
    "database-health": "database",
    "database-logs": "database",
}
"""Adapters, each with the container that it adapts."""


def measure(quick: bool) -> Figure:
    """The composition ``adapters``, first idle, then with clients."""
    rounds = 1 if quick else 2
    with (
        ground() as here,
        here.kube.namespace("bench-adapters") as namespace,
        here.stack(PROGRAMS / "adapters", "adapters") as stack,
    ):
        stack.up(namespace=namespace, images=dict(here.images(*IMAGES)), interval=INTERVAL)
        time.sleep(SETTLE_SECONDS)
        watched = Watched(here.kube, namespace, {*PAIRS, *PAIRS.values()})
        seen: dict[str, list[dict[str, dict[str, float]]]] = {"rest": [], "load": []}
        for _ in range(rounds):
            seen["rest"].append(watched.window())
            clients = [
                _load(here, namespace, instance, path)
                for instance, path in (("web", "/"), ("counter", "/hits/bench"))
            ]
            seen["load"].append(watched.window())
            requests = [json.loads(c.output(120))["outcomes"] for c in clients]
    names = [*PAIRS, *sorted(set(PAIRS.values()))]
    return Figure(
        name="adapters",
        question="memory of an adapter / of the program that it adapts, at rest",
        command="python -m bench --only adapters",
        method=(
            f"The composition adapters, scraped every {INTERVAL} s, as the kubelet counts. "
            f"{rounds} rounds of {WINDOW_SECONDS} s each left alone and with two clients, one that "
            "asks nginx and one that counts in redis through twemproxy. Memory is the working set; "
            "CPU is what was used in the window, in thousandths of a processor."
        ),
        ratios=[
            Ratio.of(
                f"{adapter} / {program}",
                [(w[adapter]["mib"], w[program]["mib"]) for w in seen["rest"]],
            )
            for adapter, program in PAIRS.items()
        ],
        measurements={
            "usage": {
                name: {
                    f"{key}_{when}": statistics.median(w[name][key] for w in windows)
                    for when, windows in seen.items()
                    for key in ("mib", "millicores")
                }
                for name in names
            },
            "requests_in_the_last_window": requests,
        },
    )


def _load(here: Ground, namespace: str, instance: str, path: str) -> Exec:
    """A client that sends requests for the length of the window."""
    pods = {pod.name: pod for pod in here.kube.pods(namespace)}
    client = next(pod for name, pod in pods.items() if name.startswith("client"))
    (target,) = here.kube.pods(namespace, {"app.kubernetes.io/instance": instance})
    return InPod(here.kube, client, "client").start(
        "load",
        module="tests.live.in_pod.visit",
        host=target.address,
        port=8080,
        path=path,
        seconds=WINDOW_SECONDS + 20,
        pause=0.005,
    )
