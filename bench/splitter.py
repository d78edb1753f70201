"""The cost of a splitter beside no proxy, and the accuracy of its split at two percentages."""

import statistics
from collections.abc import Sequence
from typing import Any

from bench.figures import Figure, Ratio
from bench.ground import PROGRAMS, ground
from tests.live.support.kube import InPod, Kube, Pod
from tests.live.support.nodes import FAMILY, Nodes
from tests.live.support.waiting import eventually

WAYS = ("direct", "splitter")
RATE = 300
USERS = 5000
TAIL_GOAL = 1.5
POINTS_GOAL = 1.5
PACE = "bench.in_pod.http_pace"
VISIT = "tests.live.in_pod.visit"
COMPANIONS = ("split-10", "split-10-metrics")


def measure(quick: bool) -> Figure:
    """Both ways one after the other in each round, then the users of several populations."""
    rounds = 2 if quick else 7
    seconds = 2 if quick else 6
    with ground() as here, here.kube.namespace("splitter") as namespace:
        images = here.images("nginx", "companions", "toolbox")
        nodes = Nodes(here.cluster)
        with here.stack(PROGRAMS / "splitter", "splitter") as stack:
            stack.up(namespace=namespace, images=dict(images))
            host, _, port = stack.outputs()["direct"].rpartition(":")
        client = _client(here.kube, namespace)
        ways = {
            "direct": {"host": host, "port": int(port)},
            "splitter": {"host": "127.0.0.1", "port": 8080},
        }
        rest = {name: _usage(nodes, client, name) for name in COMPANIONS}
        inside = InPod(here.kube, client, "client")
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for number in range(rounds):
            for way in WAYS if number % 2 else reversed(WAYS):
                answer = inside.ask(
                    "pace", module=PACE, rate=RATE, seconds=seconds, seed=number, **ways[way]
                )
                if answer["unanswered"]:
                    raise RuntimeError(f"{way}: {answer}")
                runs[way].append(answer)
        after = {name: _usage(nodes, client, name) for name in COMPANIONS}
        users = [_users(inside, number) for number in range(2 if quick else 5)]
        nodes.close()
    p99 = {way: [run["p99_ms"] for run in runs[way]] for way in WAYS}
    p50 = {way: [run["p50_ms"] for run in runs[way]] for way in WAYS}
    one = 1.0
    return Figure(
        name="splitter",
        question="What the splitter costs beside no proxy, and how exactly it splits users",
        command="python -m bench --only splitter",
        method=(
            f"{rounds} rounds, each both ways one after the other, from one client pod to one nginx: "
            f"an open loop with Poisson arrivals at {RATE} requests / s for {seconds} s, kept "
            "connections, counted from the moment a request was due. Users: "
            f"{USERS} of each of {len(users)} populations, each once at 10 % and once at 20 %. "
            "The load generator shares the processors with what it measures."
        ),
        ratios=[
            Ratio.of(
                "p99: splitter / direct",
                list(zip(p99["splitter"], p99["direct"], strict=True)),
                TAIL_GOAL,
            ),
            Ratio.of(
                "median: splitter / direct", list(zip(p50["splitter"], p50["direct"], strict=True))
            ),
            Ratio.of(
                f"error of 10 % over {USERS} users, points",
                [(abs(one_of["at_10"] - 10), one) for one_of in users],
                POINTS_GOAL,
            ),
            Ratio.of(
                "moved when 10 % becomes 20 %, error in points",
                [(abs(one_of["moved"] - 10), one) for one_of in users],
                POINTS_GOAL,
            ),
            Ratio.of(
                "moved although they need not be, points",
                [(one_of["moved_back"], one) for one_of in users],
                0.0,
            ),
        ],
        measurements={
            "latency_ms": {
                way: {
                    mark: statistics.median(run[mark] for run in runs[way])
                    for mark in ("p50_ms", "p99_ms", "sent_late_p99_ms")
                }
                for way in WAYS
            },
            "users_percent": users,
            "memory_mib_at_rest": {name: rest[name][1] for name in COMPANIONS},
            "memory_mib_after_load": {name: after[name][1] for name in COMPANIONS},
            "cpu_ms_per_request": {
                name: 1000
                * (after[name][0] - rest[name][0])
                / sum(run["sent"] for run in runs["splitter"])
                for name in COMPANIONS
            },
        },
    )


def _client(kube: Kube, namespace: str) -> Pod:
    def condition() -> Pod | None:
        pods = kube.pods(namespace, {"app.kubernetes.io/instance": "client"})
        return pods[0] if pods and pods[0].ready else None

    found = eventually(condition, 60, lambda: f"the client is ready\n{kube.describe(namespace)}")
    if found is None:
        raise RuntimeError("no client")
    return found


def _users(inside: InPod, population: int) -> dict[str, float]:
    """Percentages of one population's users."""
    request: dict[str, Any] = {
        "module": VISIT,
        "host": "127.0.0.1",
        "count": USERS,
        "headers": {"X-User-Id": f"population-{population}-#"},
    }
    at_10: Sequence[str] = inside.ask("users", port=8080, **request)["seen"]
    at_20: Sequence[str] = inside.ask("users", port=8090, **request)["seen"]
    if set(at_10) != {"control", "experiment"} or set(at_20) != {"control", "experiment"}:
        raise RuntimeError(f"users saw {set(at_10) | set(at_20)}")
    moves = list(zip(at_10, at_20, strict=True))
    return {
        "at_10": 100 * at_10.count("experiment") / USERS,
        "at_20": 100 * at_20.count("experiment") / USERS,
        "moved": 100 * moves.count(("control", "experiment")) / USERS,
        "moved_back": 100 * moves.count(("experiment", "control")) / USERS,
    }


def _usage(nodes: Nodes, pod: Pod, container: str) -> tuple[float, float]:
    """CPU seconds and MiB of memory of all processes of a container."""
    script = FAMILY + (
        "ticks=0; kib=0\nfor pid in $family; do\n"
        'read -r line < "/proc/$pid/stat"; set -- ${line##*) }\n'
        "ticks=$((ticks + ${12} + ${13}))\n"
        'kib=$((kib + $(awk \'$1 == "Pss:" {print $2}\' "/proc/$pid/smaps_rollup")))\n'
        'done\necho "$ticks $kib $(getconf CLK_TCK)"\n'
    )
    ticks, kib, tick = nodes.run(pod.node, script, str(nodes.pid(pod, container))).split()[-3:]
    return int(ticks) / int(tick), int(kib) / 1024
