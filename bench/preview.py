"""A preview without changes of a program of 100 objects, beside one of an empty program."""

from bench.figures import Figure, Ratio
from bench.ground import ground
from tests.live.support.stacks import PROGRAMS

OBJECTS = 100
GOAL = 2.0


def measure(quick: bool) -> Figure:
    """Previews of both programs in turn."""
    rounds = 2 if quick else 9
    program = PROGRAMS / "many"
    seconds: dict[str, list[float]] = {"empty": [], "objects": []}
    with (
        ground() as here,
        here.kube.namespace("preview") as namespace,
        here.stack(program, "empty") as empty,
        here.stack(program, "objects") as full,
    ):
        empty.up(objects=0, namespace=namespace)
        made = full.up(objects=OBJECTS, namespace=namespace)
        # The provider is a resource too.
        if len(made.changed) != OBJECTS + 1:
            raise RuntimeError(f"the program registered {len(made.changed)} resources")
        for _ in range(rounds + 1):
            for name, stack in (("empty", empty), ("objects", full)):
                preview = stack.preview()
                if preview.changed:
                    raise RuntimeError(f"the preview shows changes: {preview.changed}")
                seconds[name].append(preview.seconds)
    # The first of each warms the caches.
    pairs = list(zip(seconds["objects"][1:], seconds["empty"][1:], strict=True))
    return Figure(
        name="preview",
        question=f"pulumi preview of {OBJECTS} unchanged objects / of an empty program",
        command="python -m bench --only preview",
        method=(
            f"{rounds} rounds after one to warm up, each a preview of both programs one after the "
            "other, from the start of the CLI to its end, on a file backend. The objects are 20 "
            "each of ConfigMap, ServiceAccount, Service, NetworkPolicy and PodDisruptionBudget."
        ),
        ratios=[Ratio.of(f"preview of {OBJECTS} objects / of none", pairs, GOAL)],
        measurements={"seconds": seconds},
    )
