"""The cost of a proxy: direct, through a bare relay, and through the ambassador, side by side."""

import csv
import statistics
from collections.abc import Mapping
from typing import Any

from bench.figures import Figure, Ratio
from bench.ground import PROGRAMS, ground
from tests.live.support.kube import InPod, Kube, Pod
from tests.live.support.waiting import eventually

PATHS = ("direct", "relay", "ambassador")
CONNECTIONS = 50
SHAPES = {"SET": 1, "GET": 1, "SET pipelined by 16": 16, "GET pipelined by 16": 16}
PACED_SHARE = 0.3
THROUGHPUT_GOAL = 0.95
TAIL_GOAL = 1.5


def measure(quick: bool) -> Figure:
    """One Redis; one pod with the client, the relay and the ambassador for that Redis."""
    rounds = 2 if quick else 9
    requests = 20_000 if quick else 60_000
    seconds = 2 if quick else 6
    with ground() as here, here.kube.namespace("proxy") as namespace:
        images = here.images("redis", "twemproxy", "toolbox", "haproxy")
        with here.stack(PROGRAMS / "proxy", "proxy") as stack:
            stack.up(namespace=namespace, images=dict(images))
            ways: dict[str, dict[str, Any]] = stack.outputs()["ways"]
        client = _client(here.kube, namespace)
        throughput = _throughput(here.kube, client, ways, rounds, requests)
        peak = statistics.median(throughput["GET"]["direct"])
        rate = PACED_SHARE * peak
        latency = _latency(here.kube, client, ways, rounds, rate, seconds)
    ratios = []
    for shape in SHAPES:
        got = throughput[shape]
        ratios.append(
            Ratio.of(
                f"{shape}: ambassador / relay",
                list(zip(got["ambassador"], got["relay"], strict=True)),
                THROUGHPUT_GOAL if SHAPES[shape] == 1 else None,
                at_most=False,
            )
        )
        ratios.append(
            Ratio.of(
                f"{shape}: ambassador / direct",
                list(zip(got["ambassador"], got["direct"], strict=True)),
            )
        )
    p99 = {way: [run["p99_ms"] for run in latency[way]] for way in PATHS}
    ratios.append(
        Ratio.of(
            "p99 at 30 % of direct peak: ambassador / direct",
            list(zip(p99["ambassador"], p99["direct"], strict=True)),
            TAIL_GOAL,
        )
    )
    ratios.append(
        Ratio.of(
            "p99 at 30 % of direct peak: relay / direct",
            list(zip(p99["relay"], p99["direct"], strict=True)),
        )
    )
    return Figure(
        name="proxy",
        question="What the ambassador costs, beside a bare TCP relay and no proxy at all",
        command="python -m bench --only proxy",
        method=(
            f"{rounds} rounds, each all three ways one after the other, in one client pod before "
            f"one Redis on another node where there is one. Throughput: redis-benchmark, "
            f"{CONNECTIONS} connections, {requests} requests. Latency: an open loop with Poisson "
            f"arrivals, half SET and half GET, at {PACED_SHARE:.0%} of the median direct GET "
            f"throughput, {seconds} s a run, counted from the moment a request was due. Relay: "
            "HAProxy in TCP mode with one thread, as twemproxy has. The load generator shares the "
            "processors with what it measures."
        ),
        ratios=ratios,
        measurements={
            "throughput_requests_per_second": {
                shape: {way: _summary(values) for way, values in got.items()}
                for shape, got in throughput.items()
            },
            "paced_rate_requests_per_second": rate,
            "latency_ms": {
                way: {
                    mark: _summary([run[mark] for run in runs])
                    for mark in ("p50_ms", "p99_ms", "p999_ms", "sent_late_p99_ms")
                }
                for way, runs in latency.items()
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


def _throughput(
    kube: Kube, client: Pod, ways: Mapping[str, Any], rounds: int, requests: int
) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {
        shape: {way: [] for way in PATHS} for shape in SHAPES
    }
    for number in range(rounds):
        for pipeline in sorted(set(SHAPES.values())):
            # Each way is first as often as the others.
            for way in (*PATHS[number % 3 :], *PATHS[: number % 3]):
                rates = _benchmark(kube, client, ways[way], requests * pipeline // 2, pipeline)
                for shape, depth in SHAPES.items():
                    if depth == pipeline:
                        found[shape][way].append(rates[shape[:3]])
    return found


def _benchmark(
    kube: Kube, client: Pod, way: Mapping[str, Any], requests: int, pipeline: int
) -> dict[str, float]:
    command = [
        "redis-benchmark", "-h", way["host"], "-p", str(way["port"]), "-t", "set,get",
        "-n", str(requests), "-c", str(CONNECTIONS), "-P", str(pipeline), "-r", "100000", "--csv",
    ]  # fmt: skip
    printed = kube.run(client, "client", command, timeout=180)
    rates = {}
    for row in csv.reader(printed.splitlines()):
        if row and row[0] in ("SET", "GET"):
            rates[row[0]] = float(row[1])
    if set(rates) != {"SET", "GET"}:
        raise RuntimeError(f"redis-benchmark printed {printed!r}")
    return rates


def _latency(
    kube: Kube, client: Pod, ways: Mapping[str, Any], rounds: int, rate: float, seconds: float
) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {way: [] for way in PATHS}
    pacer = InPod(kube, client, "client")
    for number in range(rounds):
        for way in (*PATHS[number % 3 :], *PATHS[: number % 3]):
            run = pacer.ask(
                "pace", module="bench.in_pod.pace", rate=rate, seconds=seconds, seed=number,
                **ways[way],
            )  # fmt: skip
            if run["unanswered"]:
                raise RuntimeError(f"{way}: {run['unanswered']} requests without a response")
            found[way].append(run)
    return found


def _summary(values: list[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "runs": values,
    }
