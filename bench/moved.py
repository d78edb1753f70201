"""Keys moved when a shard is added, and the balance of the shards, on the real nutcracker."""

from collections import Counter

from bench.figures import Figure, Ratio
from bench.ground import ground
from dds_patterns.sharding import DEFAULT_HASH, Ring, least_moved, moved_fraction, plan
from tests.live.support.ring_pod import RingPod

SHAPE = "key:%012d"
GOAL = 1.03


def measure(quick: bool) -> Figure:
    """For 2 to 8 shards; ``quick`` uses a tenth of the keys."""
    keys = 100_000 if not quick else 10_000
    rings = {shards: plan(shards).names for shards in range(2, 10)}
    with ground() as here, here.kube.namespace("moved") as namespace:
        images = here.images("redis", "twemproxy", "toolbox")
        pods = RingPod(here.kube, images, namespace)
        placement = pods.measure(rings, DEFAULT_HASH, SHAPE, keys).placement
    steps = []
    ratios = []
    for shards in range(2, 9):
        pairs = zip(placement[shards], placement[shards + 1], strict=True)
        moved = sum(was != now for was, now in pairs) / keys
        optimum = least_moved(shards, shards + 1)
        plain = _plain(shards).moved(_plain(shards + 1))
        steps.append(
            {
                "shards": shards,
                "moved_fraction": moved,
                "optimum": optimum,
                "moved_over_optimum": moved / optimum,
                "moved_over_optimum_model": moved_fraction(shards, shards + 1) / optimum,
                "plain_moved_over_optimum": plain / optimum,
            }
        )
        ratios.append(
            Ratio.of(f"keys moved / optimum, {shards} to {shards + 1}", [(moved, optimum)], GOAL)
        )
    sizes = []
    for shards in range(2, 9):
        keys_of = Counter(placement[shards])
        sizes.append(
            {
                "shards": shards,
                "keys_by_shard": [keys_of[str(index)] for index in range(shards)],
                "max_over_mean": max(keys_of.values()) / (keys / shards),
                "plain_max_over_mean": max(_plain(shards).shares()) * shards,
            }
        )
    return Figure(
        name="moved",
        question="Keys moved when a shard is added / the least that any even placement moves",
        command="python -m bench --only moved",
        method=(
            f"{keys} keys of the form {SHAPE} written through nutcracker before 2 to 9 redis in one "
            "pod, then asked for at every redis. One run: nothing here varies but the machine's "
            "speed. 'plain' is the ring of the names redis-0, redis-1, ... in the model that the "
            "live tests compare with nutcracker key by key."
        ),
        ratios=ratios,
        measurements={"keys": keys, "hash": DEFAULT_HASH, "steps": steps, "sizes": sizes},
    )


def _plain(shards: int) -> Ring:
    return Ring([f"redis-{index}" for index in range(shards)], DEFAULT_HASH)
