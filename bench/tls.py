"""The cost of HTTPS through the sidecar, with keep-alive, beside plain HTTP."""

import re
import statistics
from typing import Any

from bench.figures import Figure, Ratio
from bench.ground import PROGRAMS, ground
from tests.live.support.kube import Kube, Pod
from tests.live.support.waiting import eventually

GOAL = 0.65
CONNECTIONS = 32
SERVERS = {"quick": "a server that answers at once (nginx)", "legacy": "the composition's server"}
WAYS = ("plain", "relay", "tls")


def measure(quick: bool) -> Figure:
    """Both servers, all ways, in turn."""
    rounds = 2 if quick else 7
    seconds = 2 if quick else 4
    found: dict[str, dict[str, list[float]]] = {s: {way: [] for way in WAYS} for s in SERVERS}
    with ground() as here, here.kube.namespace("bench-tls") as namespace:
        images = here.images("nginx", "toolbox", "wrk")
        with here.stack(PROGRAMS / "tls", "tls") as stack:
            stack.up(namespace=namespace, images=dict(images))
            ways: dict[str, dict[str, str]] = stack.outputs()["ways"]
        client = _client(here.kube, namespace)
        for number in range(rounds + 1):
            for server in SERVERS:
                for way in WAYS if number % 2 else WAYS[::-1]:
                    rate = _requests_per_second(here.kube, client, ways[server][way], seconds)
                    # The first round is the warm-up.
                    if number:
                        found[server][way].append(rate)
    return Figure(
        name="tls",
        question="Throughput through the TLS sidecar / in plain, connections kept",
        command="python -m bench --only tls",
        method=(
            f"{rounds} rounds after one to warm up, in each every way one after the other, from one "
            f"pod with wrk: {CONNECTIONS} connections that are kept, {seconds} s a run. nginx "
            "answers with 1 KiB, the composition's server (Python) with JSON of 0.5 KiB. The load "
            "generator, the sidecar and the server share the machine's processors, so encryption at "
            "both ends is part of the figure. The relay is the same nginx without TLS, beside the "
            "same server: what one process more on the way costs by itself."
        ),
        ratios=[
            Ratio.of(
                f"through the sidecar / plain, {what}",
                list(zip(found[server]["tls"], found[server]["plain"], strict=True)),
                GOAL,
                at_most=False,
            )
            for server, what in SERVERS.items()
        ]
        + [
            Ratio.of(
                f"{title}, {what}",
                list(zip(found[server][above], found[server][below], strict=True)),
            )
            for server, what in SERVERS.items()
            for title, above, below in (
                ("a relay without TLS / plain", "relay", "plain"),
                ("through the sidecar / such a relay", "tls", "relay"),
            )
        ],
        measurements={
            "requests_per_second": {
                server: {
                    way: {"median": statistics.median(rates), "runs": rates}
                    for way, rates in by_way.items()
                }
                for server, by_way in found.items()
            }
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


def _requests_per_second(kube: Kube, client: Pod, url: str, seconds: int) -> float:
    command: list[Any] = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", url]
    printed = kube.run(client, "client", command, timeout=seconds + 60)
    # A late response is slow, not an error.
    errors = re.search(r"Non-2xx.*|Socket errors: (?!connect 0, read 0, write 0).*", printed)
    rate = re.search(r"Requests/sec:\s*([0-9.]+)", printed)
    if rate is None or errors:
        raise RuntimeError(f"wrk printed {printed}")
    return float(rate[1])
