"""Shards and their replicas: who answers for which, and what is left when one is away or replaced."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.live.support.cluster import Cluster
from tests.live.support.kube import InPod, Kube, Pod, now
from tests.live.support.stacks import PROGRAMS, Stack, throwaway
from tests.live.support.variants import built_images
from tests.live.support.waiting import eventually

CLIENT = "tests.live.in_pod.leaves"
SHARDS, RANKS = range(3), ("leaves", "leaves-r1")
LABEL = {"dds/shards-of": "leaves"}


def replicas(shard: int) -> set[str]:
    """Names of the pods of a shard."""
    return {f"{rank}-{shard}" for rank in RANKS}


@dataclass(frozen=True)
class Look:
    """Which pods were ready at a moment; one that is being deleted is not."""

    at: float
    ready: frozenset[str]


@dataclass(frozen=True)
class Watched:
    """What was seen while something was done."""

    looks: Sequence[Look]
    answers: Sequence[Mapping[str, Any]]

    def away(self, pod: str) -> tuple[float, float]:
        """From when until when a pod was not ready."""
        gone = [look.at for look in self.looks if pod not in look.ready]
        assert gone, f"{pod} was never away"
        back = [look.at for look in self.looks if look.at > gone[-1]]
        assert back, f"{pod} is not back"
        return gone[0], back[0]

    def answered(self, shard: int, between: tuple[float, float]) -> set[str]:
        """The pods that answered for a shard meanwhile."""
        begin, end = between
        return {
            each["pod"]
            for each in self.answers
            if each["endpoint"] == shard and "pod" in each and begin <= each["at"] <= end
        }


@dataclass(frozen=True)
class Leaves:
    """The deployed program."""

    kube: Kube
    stack: Stack
    namespace: str
    at: Sequence[str]
    """Addresses of the shards."""

    def pods(self) -> dict[str, Pod]:
        return {pod.name: pod for pod in self.kube.pods(self.namespace, LABEL)}

    def client(self, name: str = "client") -> InPod:
        def condition() -> Pod | None:
            pods = self.kube.pods(self.namespace, {"app.kubernetes.io/instance": name})
            return pods[0] if len(pods) == 1 and pods[0].ready else None

        found = eventually(
            condition, 90, lambda: f"{name} is ready\n{self.kube.describe(self.namespace)}"
        )
        assert found is not None
        return InPod(self.kube, found, name)

    def whole(self) -> dict[str, Pod]:
        """All pods, when they are ready."""

        def condition() -> dict[str, Pod] | None:
            pods = self.pods()
            return pods if len(pods) == 6 and all(pod.ready for pod in pods.values()) else None

        found = eventually(
            condition, 180, lambda: f"all are ready\n{self.kube.describe(self.namespace)}"
        )
        assert found is not None
        return found

    def watched(self, do: Callable[[], object]) -> Watched:
        """What the pods and a client of all shards show while something is done."""
        looks: list[Look] = []

        def look() -> None:
            pods = eventually(self.pods, 60, "the API server lists the pods")
            looks.append(Look(now(), frozenset(n for n, pod in pods.items() if pod.ready)))

        traffic = self.client().start("tell", module=CLIENT, at=self.at)
        try:
            with ThreadPoolExecutor(1) as pool:
                doing = pool.submit(do)
                while not doing.done():
                    look()
                    time.sleep(0.2)
                doing.result()
            self.whole()
            look()
        finally:
            traffic.send("stop")
            told = traffic.output(60)
        answers = [json.loads(line) for line in told.splitlines() if '"endpoint"' in line]
        return Watched(looks, answers)


@pytest.fixture(scope="module")
def leaves(
    cluster: Cluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Leaves]:
    folder = tmp_path_factory.mktemp("shards")
    images = built_images(cluster, folder / "images", ("toolbox",))
    with (
        kube.namespace("shards") as namespace,
        # The namespace takes all with it when it goes.
        throwaway(cluster, PROGRAMS / "shards", folder / "stack", destroy=False) as stack,
    ):
        spread = "strict" if len(kube.nodes()) > 1 else "soft"
        stack.up(namespace=namespace, images=dict(images), spread=spread, word="first")
        yield Leaves(kube, stack, namespace, stack.outputs()["at"])


def no_other_shard_answered(answers: Sequence[Mapping[str, Any]]) -> None:
    others = [each for each in answers if "shard" in each and each["shard"] != each["endpoint"]]
    assert others == []


def test_behind_each_address_are_both_replicas_of_its_shard(leaves: Leaves) -> None:
    leaves.whole()
    client = leaves.client()
    told: list[dict[str, Any]] = []

    def both() -> bool:
        # The nodes hear of a ready pod one after the other.
        found = client.ask("each", module=CLIENT, at=leaves.at, count=60)["answers"]
        told.extend({**answer, "endpoint": n} for n in SHARDS for answer in found[n])
        seen = [{answer.get("pod", answer.get("error")) for answer in each} for each in found]
        assert seen == [replicas(shard) for shard in SHARDS]
        return True

    eventually(both, 60, "both replicas of every shard answer")
    no_other_shard_answered(told)


def test_replicas_of_a_shard_are_on_different_nodes(leaves: Leaves) -> None:
    if len(leaves.kube.nodes()) == 1:
        pytest.skip("there is one node")
    pods = leaves.whole()
    for shard in SHARDS:
        assert len({pods[name].node for name in replicas(shard)}) == 2, pods


def test_who_reaches_one_shard_reaches_no_other(leaves: Leaves) -> None:
    single = leaves.client("single")

    def asked(shard: int) -> list[dict[str, Any]]:
        at = [leaves.at[shard]]
        answers = single.ask("each", module=CLIENT, at=at, count=2, tries=1)["answers"]
        return list(answers[0])

    eventually(lambda: all(answer.get("shard") == 1 for answer in asked(1)), 60, "it is let in")
    for shard in (0, 2):
        assert all("error" in answer for answer in asked(shard))


def test_of_a_shard_whose_replica_is_deleted_the_other_answers(leaves: Leaves) -> None:
    before = leaves.whole()["leaves-1"]

    def delete() -> None:
        leaves.kube.delete_pod(before)
        leaves.kube.ready_pod(leaves.namespace, before.name, 180, not_uid=before.uid)

    seen = leaves.watched(delete)
    no_other_shard_answered(seen.answers)
    away = seen.away(before.name)
    assert "leaves-r1-1" in seen.answered(1, away)
    assert all(seen.answered(shard, away) for shard in SHARDS)


def test_an_update_loses_no_shard(leaves: Leaves) -> None:
    before = leaves.whole()
    client = leaves.client().pod
    seen = leaves.watched(lambda: leaves.stack.up(word="second"))
    after = leaves.whole()
    assert {name for name in after if after[name].uid != before[name].uid} == set(before)
    # What watched was there all the time.
    assert leaves.client().pod.uid == client.uid
    no_other_shard_answered(seen.answers)
    for look in seen.looks:
        assert all(look.ready & replicas(shard) for shard in SHARDS), look
    for shard in SHARDS:
        for name in replicas(shard):
            away = seen.away(name)
            assert seen.answered(shard, away) - {name}, f"nobody stood in for {name}"
            for other in SHARDS:
                assert seen.answered(other, away), f"shard {other} while {name} was away"
    # Rank by rank.
    first, second = ([seen.away(f"{rank}-{shard}") for shard in SHARDS] for rank in RANKS)
    assert max(end for _, end in first) <= min(begin for begin, _ in second)
    assert {each.get("word") for each in seen.answers} >= {"first", "second"}
