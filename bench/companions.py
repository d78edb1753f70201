"""The cost of the sidecars and ambassadors: memory and CPU, idle and under load."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from bench.figures import Figure
from bench.ground import Ground, ground
from bench.usage import WINDOW_SECONDS, Watched
from stacks.sidecars import SETTINGS
from tests.live.support.kube import Exec
from tests.live.support.nodes import Nodes
from tests.live.support.sidecars import at, deployed
from tests.live.support.split import split

SETTLE_SECONDS = 20
LOAD_SECONDS = WINDOW_SECONDS + 40
# Seconds between two requests of a client.
PAUSE = 0.005
SIDECARS = ("tls", "sync")
AMBASSADORS = ("split", "split-metrics", "broker", "top")

Load = Callable[[], dict[str, Callable[[], int]]]
"""Starts clients; each value returns, when its client has ended, the number of its requests."""
Deployed = tuple[Watched, Load]


def measure(quick: bool) -> Figure:
    """Two deployments, each first idle and then with clients."""
    usage: dict[str, dict[str, float]] = {}
    requests: dict[str, int] = {}
    with ground() as here:
        nodes = Nodes(here.cluster)
        try:
            for deployment in (_sidecars, _ambassadors):
                with deployment(here, nodes) as (watched, load):
                    time.sleep(0 if quick else SETTLE_SECONDS)
                    rest = watched.window()
                    running = load()
                    loaded = watched.window()
                    requests |= {name: count() for name, count in running.items()}
                for name in watched.containers:
                    usage[name] = {
                        f"{key}_{when}": seen[name][key]
                        for when, seen in (("rest", rest), ("load", loaded))
                        for key in ("mib", "millicores")
                    }
        finally:
            nodes.close()
    return Figure(
        name="companions",
        question="memory and CPU of sidecars and ambassadors, at rest and under load",
        command="python -m bench --only companions",
        method=(
            f"One pod of each, as the kubelet counts, over {WINDOW_SECONDS} s left alone and as long "
            f"with clients that wait {1000 * PAUSE:g} ms between two requests: two over HTTPS (tls), "
            "one that reads topz, one change of a watched ConfigMap a second (sync), one that asks "
            "for users' pages (split) and one that counts in redis (broker). Memory is the working "
            "set; CPU is what was used in the window, in thousandths of a processor."
        ),
        ratios=[],
        measurements={
            "usage": usage,
            "requests": requests,
            "seconds_of_load": LOAD_SECONDS,
        },
    )


@contextmanager
def _sidecars(here: Ground, nodes: Nodes) -> Iterator[Deployed]:
    with deployed(here.cluster, here.kube, nodes, here.folder / "sidecars") as sidecars:
        pod = sidecars.pods("legacy", 2)[0]
        stop = threading.Event()

        def change() -> int:
            changes = 0
            while not stop.wait(1):
                changes += 1
                here.kube.core.patch_namespaced_config_map(
                    SETTINGS, sidecars.namespace, {"data": {"mark": str(changes)}}
                )
            return changes

        def load() -> dict[str, Callable[[], int]]:
            https = at(sidecars.stack.outputs()["endpoint"])
            clients = sidecars.client().start(
                "load",
                module="tests.live.in_pod.https",
                at={**https, "host": pod.address, "name": https["host"]},
                clients=2,
                seconds=LOAD_SECONDS,
                pause=PAUSE,
            )
            changing = pool.submit(change)

            def changed() -> int:
                stop.set()
                return changing.result()

            return {"tls": lambda: _requests(clients), "sync": changed}

        with ThreadPoolExecutor(1) as pool:
            try:
                yield Watched(here.kube, sidecars.namespace, SIDECARS, (pod.name,)), load
            finally:
                stop.set()


@contextmanager
def _ambassadors(here: Ground, nodes: Nodes) -> Iterator[Deployed]:
    with split(here.cluster, here.kube, nodes, here.folder / "split") as deployment:
        front, inside = deployment.pod("front"), deployment.pod("inside")

        def client(host: str, port: int, path: str) -> Callable[[], int]:
            running = deployment.start(
                "visitor", "load", host=host, port=port, path=path, seconds=LOAD_SECONDS,
                pause=PAUSE,
            )  # fmt: skip
            return lambda: _requests(running)

        def load() -> dict[str, Callable[[], int]]:
            return {
                "split": client(front.address, 8000, "/page?user=u#"),
                "broker": client(inside.address, 8080, "/hits/bench"),
                "topz": client(inside.address, 8079, "/topz.json"),
            }

        pods = (front.name, inside.name)
        yield Watched(here.kube, deployment.namespace, AMBASSADORS, pods), load


def _requests(running: Exec) -> int:
    outcomes: dict[str, int] = json.loads(running.output(120))["outcomes"]
    return sum(outcomes.values())
