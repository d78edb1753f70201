"""Placement: where the keys written through the ambassador really are."""

import re
from collections import Counter
from collections.abc import Callable

import pytest

from dds_patterns.sharding import DEFAULT_HASH, Ring, least_moved, moved_fraction, plan
from tests.live.support.kube import now
from tests.live.support.ring_pod import Measured, RingPod
from tests.live.support.sharded import Sharded
from tests.live.support.waiting import eventually

KEYS = 100_000
SHAPE = "key:%012d"
EVEN = 1.05
MOVED = 1.03
# What a shard says of a password that it does not know, and the proxy of one that is not its own.
REFUSED = re.compile("NOAUTH|WRONGPASS|invalid password")


def test_keys_land_on_all_shards_and_each_is_on_exactly_one(store: Sharded) -> None:
    client = store.client()
    shape = f"placed-{SHAPE}"

    def all_of_them(action: str, answer: str) -> bool:
        # Again as a whole: on a busy machine the proxy gives up on some of so many at a time.
        found = client.ask(action, at=store.through, shape=shape, count=KEYS)["answers"]
        assert found == {answer: KEYS}
        return True

    eventually(lambda: all_of_them("fill", "ok"), 60, "every key is written")
    eventually(lambda: all_of_them("read", "right"), 60, "every key is read")

    placement = client.ask("place", shards=store.direct, shape=shape, count=KEYS)["placement"]
    held = Counter(placement)
    assert set(held) == {str(index) for index in range(len(store.shards))}, held
    assert max(held.values()) / (KEYS / len(store.shards)) <= EVEN, held

    ring = store.ring
    predicted = "".join(str(ring.index(shape % number)) for number in range(KEYS))
    assert placement == predicted, differing(placement, predicted, shape)


@pytest.fixture(scope="module")
def ring_pod(ring_pods: RingPod) -> Measured:
    """2 to 8 shards with the planned names, and one more to see what moves, on nutcracker."""
    rings = {count: plan(count).names for count in range(2, 10)}
    return ring_pods.measure(rings, DEFAULT_HASH, SHAPE, KEYS)


@pytest.mark.parametrize("shards", range(2, 9))
def test_shards_are_even_and_placed_as_predicted(ring_pod: Measured, shards: int) -> None:
    placement = ring_pod.placement[shards]
    held = Counter(placement)
    assert set(held) == set("01234567"[:shards]), held
    assert max(held.values()) / (KEYS / shards) <= EVEN, held
    ring = plan(shards).ring()
    predicted = "".join(str(ring.index(SHAPE % number)) for number in range(KEYS))
    assert placement == predicted, differing(placement, predicted, SHAPE)


@pytest.mark.parametrize("shards", range(2, 9))
def test_a_new_shard_moves_only_its_own_keys(ring_pod: Measured, shards: int) -> None:
    before, after = ring_pod.placement[shards], ring_pod.placement[shards + 1]
    moved = [now for was, now in zip(before, after, strict=True) if was != now]
    # What moves goes to the new shard; between the old ones nothing does.
    assert set(moved) == {str(shards)}
    # The model's fraction has no sampling error; the measured one agrees with it.
    predicted = moved_fraction(shards, shards + 1)
    assert len(moved) / KEYS == pytest.approx(predicted, abs=0.005)
    assert predicted / least_moved(shards, shards + 1) <= MOVED


def test_control_plain_names_are_uneven(ring_pods: RingPod) -> None:
    """Names as a StatefulSet gives them break the bound that the planned ones keep."""
    names = tuple(f"redis-{index}" for index in range(3))
    measured = ring_pods.measure({3: names}, "fnv1a_64", SHAPE, KEYS)
    held = Counter(measured.placement[3])
    assert max(held.values()) / (KEYS / 3) > EVEN, held
    ring = Ring(names, "fnv1a_64")
    assert measured.placement[3] == "".join(
        str(ring.index(SHAPE % number)) for number in range(KEYS)
    )


@pytest.mark.slow
def test_another_generation_of_passwords_is_refused_to_no_client(store: Sharded) -> None:
    shards = range(len(store.shards))
    former = store.stack.outputs()["password"]
    before, client = {each: store.shard_pod(each) for each in shards}, store.client_pod()

    with store.working("rotated") as work:

        def served(since: float, pod: str = "") -> Callable[[], bool]:
            return lambda: work.served_since(since, pod) == set(shards)

        def seen() -> str:
            return f"the client is served by every shard: {work.told[-9:]}"

        eventually(served(0), 60, seen)
        store.stack.up(generation=2)
        present = store.stack.outputs()["password"]
        assert present != former
        after = {each: store.shard_pod(each, not_uid=before[each].uid) for each in shards}
        successor = store.client_pod()
        assert successor.uid != client.uid
        eventually(served(now(), successor.uid), 60, seen)
        # With the former password, and by servers that have the new one. The last of them to be
        # replaced, which is the first shard, may be back just when the client goes.
        for each in shards[1:]:
            back = store.ready_since(after[each])
            assert each in work.served_since(back + 1, client.uid), work.told
        for each in shards:
            assert store.logged_in(each, former) == "PONG"
            assert store.logged_in(each, present) == "PONG"

        store.stack.up(keep_former=False)
        for each in shards:
            store.shard_pod(each, not_uid=after[each].uid)
            assert REFUSED.search(store.logged_in(each, former))
            assert store.logged_in(each, present) == "PONG"
        assert store.client_pod().uid == successor.uid
        eventually(served(now()), 60, seen)

    assert [each for each in work.told if REFUSED.search(each.outcome)] == []
    store.recovered()


def differing(placement: str, predicted: str, shape: str) -> str:
    """The first keys that are elsewhere than predicted, for the message."""
    wrong = [
        f"{shape % number}: on {was}, predicted {should}"
        for number, (was, should) in enumerate(zip(placement, predicted, strict=True))
        if was != should
    ]
    return f"{len(wrong)} keys elsewhere, for example {wrong[:3]}"
