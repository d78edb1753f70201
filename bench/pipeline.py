"""Events a second through a pipeline of three steps, beside direct calls of the three."""

import secrets

from bench.figures import Figure, Ratio
from bench.ground import ground
from tests.live.support.events import FLOW, IMAGES, Events, deployed
from tests.live.support.nodes import Nodes

THREADS = 8


def measure(quick: bool) -> Figure:
    """Both ways in turn, on one deployment."""
    rounds = 2 if quick else 7
    count = 60 if quick else 1000
    rates: dict[str, list[float]] = {"pipeline": [], "direct": []}
    with ground() as here:
        nodes = Nodes(here.cluster)
        images = here.images(*IMAGES)
        with deployed(here.cluster, here.kube, nodes, images, here.folder / "pipeline") as events:
            for number in range(rounds):
                # Each way is first as often as the other.
                for way in sorted(rates, reverse=bool(number % 2)):
                    rates[way].append(count / _seconds(events, way, count))
        nodes.close()
    return Figure(
        name="pipeline",
        question="Events a second through a pipeline of three steps, beside direct calls",
        command="python -m bench --only pipeline",
        method=(
            f"{rounds} rounds of {count} events each way, in turn, {THREADS} threads in a client's "
            "pod. Direct: each thread calls the three steps one after the other. Pipeline: each "
            "publishes, two pods deliver, four events at a time and step each. Counted until the "
            "last step has had its effect. The steps are the same server either way."
        ),
        ratios=[
            Ratio.of(
                "events / s: pipeline / direct calls",
                list(zip(rates["pipeline"], rates["direct"], strict=True)),
            )
        ],
        measurements={"events_per_second": rates},
    )


def _seconds(events: Events, way: str, count: int) -> float:
    answer = events.ask(
        "rate",
        wait=200,
        way=way,
        mark=secrets.token_hex(4),
        count=count,
        threads=THREADS,
        seconds=180,
        url=events.outputs["signup"],
        steps=events.outputs["steps"],
        ways=["/".join(path) for path in FLOW.paths()],
    )
    if answer["errors"]:
        raise RuntimeError(f"{way}: {answer['errors']}")
    return float(answer["seconds"])
