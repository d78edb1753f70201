"""The time until the application has read a changed configuration, beside the interval."""

import json
import random
import statistics
import time

from bench.figures import Figure, Ratio
from bench.ground import ground
from stacks.sidecars import SETTINGS
from tests.live.support.kube import now
from tests.live.support.nodes import Nodes
from tests.live.support.sidecars import Sidecars, deployed
from tests.live.support.waiting import eventually

GOAL = 1.1
INTERVAL = 5
WATCHED_INTERVAL = 10


def measure(quick: bool) -> Figure:
    """Changes at random moments; the longest of each group counts."""
    groups, changes = (1, 3) if quick else (4, 8)
    random.seed(1)
    with ground() as here:
        nodes = Nodes(here.cluster)
        try:
            with deployed(
                here.cluster, here.kube, nodes, here.folder, interval=INTERVAL
            ) as sidecars:
                polled = [
                    [_by_http(sidecars, INTERVAL) for _ in range(changes)] for _ in range(groups)
                ]
                watched = [[_by_watch(sidecars) for _ in range(changes)] for _ in range(groups)]
        finally:
            nodes.close()
    return Figure(
        name="sync",
        question="Time from a changed source to the application having read it / the interval",
        command="python -m bench --only sync",
        method=(
            f"{groups} groups of {changes} changes at random moments; the longest of each group. "
            f"By interval: a document over HTTP, polled every {INTERVAL} s, checked and swapped, "
            "and the application told by a request. By watch: a ConfigMap, whose interval is "
            f"{WATCHED_INTERVAL} s, and the application told by a signal. The application notes when "
            "it has read its files; all clocks are the machine's."
        ),
        ratios=[
            Ratio.of(
                f"longest of {changes} changes / interval, by interval",
                [(max(group), INTERVAL) for group in polled],
                GOAL,
            ),
            Ratio.of(
                f"longest of {changes} changes / interval, by watch",
                [(max(group), WATCHED_INTERVAL) for group in watched],
                GOAL,
            ),
        ],
        measurements={
            "seconds": {"by_interval": polled, "by_watch": watched},
            "median_seconds": {
                "by_interval": statistics.median(s for group in polled for s in group),
                "by_watch": statistics.median(s for group in watched for s in group),
            },
        },
    )


def _by_http(sidecars: Sidecars, interval: float) -> float:
    time.sleep(random.uniform(0, interval))
    mark = str(random.getrandbits(64))
    changed_at = sidecars.document(json.dumps({"mark": mark}))
    return _read(sidecars, "from-http", 1, mark) - changed_at


def _by_watch(sidecars: Sidecars) -> float:
    time.sleep(random.uniform(0, 1))
    mark = str(random.getrandbits(64))
    changed_at = now()
    sidecars.kube.core.patch_namespaced_config_map(
        SETTINGS, sidecars.namespace, {"data": {"mark": mark}}
    )
    return _read(sidecars, "legacy", 2, mark) - changed_at


def _read(sidecars: Sidecars, instance: str, count: int, mark: str) -> float:
    """When the application read the mark, in Unix seconds."""
    pod = sidecars.pods(instance, count)[0]

    def condition() -> float | None:
        state = sidecars.settings(pod, instance)
        return float(state["read_at"]) if state["files"].get("mark") == mark else None

    found = eventually(condition, 60, "the application has read the change", interval=0.5)
    if found is None:
        raise RuntimeError("not read")
    return found
