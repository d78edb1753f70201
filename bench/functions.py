"""The cost of a Function beside the same code without it, and how fast it scales up."""

import statistics
import time

from bench.figures import Figure, Ratio
from bench.ground import PROGRAMS, ground
from tests.live.support.functions import CALLS, Functions, Scaling
from tests.live.support.waiting import eventually

WARM_GOAL = 1.3
SPARE_GOAL = 0.10
COLD_GOAL = 1.15
WAYS = ("function", "book", "zero", "plain")
IDLE_SECONDS = 5.0


def measure(quick: bool) -> Figure:
    """Latencies in turn, starts in turn, and once a load until there are three pods."""
    rounds = 2 if quick else 9
    count = 100 if quick else 400
    starts = 1 if quick else 6
    with ground() as here, here.kube.namespace("functions") as namespace:
        images = here.images("function", "toolbox")
        with here.stack(PROGRAMS / "functions", "functions") as stack:
            stack.up(namespace=namespace, images=dict(images))
            urls: dict[str, str] = stack.outputs()["urls"]
        functions = Functions(here.kube, namespace, urls)
        warm = _warm(functions, rounds, count)
        ready: dict[str, list[float]] = {"function": [], "bare": []}
        spare: list[float] = []
        cold: list[float] = []
        for _ in range(starts):
            for name, seconds in ready.items():
                seconds.append(_second_pod(functions, name))
            time.sleep(IDLE_SECONDS)
            spare.append(_answered(functions, "function"))
            eventually(lambda: not functions.pods("zero"), 120, "zero has no pod")
            cold.append(_answered(functions, "zero"))
        scaling = Scaling(functions, "scaled", most=3)
        scaling.wait(600)
    second = next(at for at, pods in scaling.seen if pods > 1)
    medians = {way: [statistics.median(run) for run in warm[way]] for way in WAYS}
    bare = ready["bare"]
    return Figure(
        name="functions",
        question="What a Function costs beside the same code as a plain Deployment",
        command="python -m bench --only functions",
        method=(
            f"Warm: {rounds} rounds of {count} requests to each, in turn, one connection each, from "
            "a pod; median of each round. Plain is functions-framework alone in a Deployment, with "
            "as many threads. Start: a Deployment of one pod gets a second one, from the order "
            f"until it is ready, {starts} rounds in turn; bare is Python's http.server in the same "
            "image. Cold: a request to a Function with min_scale 0 that has no pod, until it is "
            f"answered. Spare: a request after {IDLE_SECONDS:g} s without any, to the one pod that "
            "is always there. Second replica: 4 clients keep a function at twice its target and more, "
            "until the second pod is ready; once."
        ),
        ratios=[
            Ratio.of(
                "warm p50: Function / plain Deployment",
                list(zip(medians["function"], medians["plain"], strict=True)),
                WARM_GOAL,
            ),
            Ratio.of(
                "warm p50: Function in the book's form / plain Deployment",
                list(zip(medians["book"], medians["plain"], strict=True)),
            ),
            Ratio.of(
                "warm p50: through an activator / plain Deployment",
                list(zip(medians["zero"], medians["plain"], strict=True)),
            ),
            Ratio.of(
                "cold start, 0 to 1: request to answer / bare pod to ready",
                list(zip(cold, bare, strict=True)),
                COLD_GOAL,
            ),
            Ratio.of(
                "start of one more pod: Function / bare pod",
                list(zip(ready["function"], bare, strict=True)),
            ),
            Ratio.of(
                "request to the warm spare / bare pod to ready",
                list(zip(spare, bare, strict=True)),
                SPARE_GOAL,
            ),
        ],
        measurements={
            "warm_p50_ms": {way: [1000 * value for value in medians[way]] for way in WAYS},
            "warm_p99_ms": {
                way: [1000 * sorted(run)[int(len(run) * 0.99)] for run in warm[way]] for way in WAYS
            },
            "ready_seconds": ready,
            "cold_seconds": cold,
            "spare_ms": [1000 * value for value in spare],
            "load_to_second_replica_seconds": second,
            "seconds_and_ready_pods_under_load": [list(pair) for pair in scaling.seen],
        },
    )


def _warm(functions: Functions, rounds: int, count: int) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        # Each way is first as often as the others.
        first = number % len(WAYS)
        order = (*WAYS[first:], *WAYS[:first])
        timed: dict[str, list[float]] = functions.client().ask(
            "timed",
            module=CALLS,
            wait=300,
            urls={way: functions.urls[way] for way in order},
            body={"name": "foo"},
            count=count,
        )
        for way in WAYS:
            found[way].append(timed[way])
    return found


def _answered(functions: Functions, name: str) -> float:
    """Seconds until the response to one request."""
    answer = functions.call(name, {"name": "foo"}, timeout=120)
    if answer["status"] != 200:  # noqa: PLR2004
        raise RuntimeError(f"{name} answered {answer['status']}: {answer['content']}")
    return float(answer["seconds"])


def _second_pod(functions: Functions, name: str) -> float:
    """Seconds from scaling to a second pod until it is ready; afterwards there is one again."""
    (deployment,) = functions.kube.objects(
        "apps/v1", "Deployment", functions.namespace, f"app.kubernetes.io/instance={name}"
    )

    def scale(pods: int) -> None:
        functions.kube.apps.patch_namespaced_deployment_scale(
            deployment["metadata"]["name"], functions.namespace, {"spec": {"replicas": pods}}
        )

    def ready(pods: int) -> bool:
        return sum(pod.ready for pod in functions.pods(name)) == pods

    eventually(lambda: ready(1), 60, f"one {name}")
    began = time.monotonic()
    scale(2)
    eventually(lambda: ready(2), 120, f"two {name}", interval=0.05)
    seconds = time.monotonic() - began
    scale(1)
    eventually(lambda: len(functions.pods(name)) == 1, 120, f"one {name} again")
    return seconds
