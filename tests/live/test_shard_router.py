"""The shard router and the ambassador before the same memcached: one ring, and each key once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from dds_patterns.sharding import plan
from tests.live.support.cluster import Cluster
from tests.live.support.kube import InPod, Kube, Pod
from tests.live.support.stacks import PROGRAMS, throwaway
from tests.live.support.variants import built_images
from tests.live.support.waiting import eventually

CLIENT = "tests.live.in_pod.memcached"
KEYS = 20_000
SHAPE = "user:%07d"
RING = plan(3).ring()
OWNERS = [RING.index(SHAPE % number) for number in range(KEYS)]


@dataclass(frozen=True)
class Routed:
    """The deployed program."""

    kube: Kube
    namespace: str
    router: str
    ambassador: str
    shards: Sequence[str]

    def ask(self, do: str, **request: Any) -> Any:
        """Of all keys, from the client's pod."""
        (pod,) = self.kube.pods(self.namespace, {"app.kubernetes.io/instance": "client"})
        client = InPod(self.kube, pod, "client")
        return client.ask(do, 300, CLIENT, shape=SHAPE, count=KEYS, **request)

    def filled(self, at: str) -> None:
        """Write all keys through a proxy, again as a whole where it gave up on some."""

        def all_stored() -> bool:
            assert self.ask("fill", at=at) == {"STORED": KEYS}
            return True

        eventually(all_stored, 60, f"every key is written through {at}")


@pytest.fixture(scope="module")
def routed(
    cluster: Cluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Routed]:
    folder = tmp_path_factory.mktemp("router")
    images = built_images(cluster, folder / "images", ("memcached", "toolbox", "twemproxy"))
    with (
        kube.namespace("router") as namespace,
        # The namespace takes all with it when it goes.
        throwaway(cluster, PROGRAMS / "router", folder / "stack", destroy=False) as stack,
    ):
        stack.up(namespace=namespace, images=dict(images))
        yield Routed(kube, namespace, **stack.outputs())


@pytest.mark.parametrize("way", ["router", "ambassador"])
def test_each_key_is_on_the_predicted_shard_alone_whichever_way_it_came(
    routed: Routed, way: str
) -> None:
    routed.filled(getattr(routed, way))
    placement = routed.ask("place", shards=routed.shards)
    assert placement == [[owner] for owner in OWNERS]


@pytest.mark.parametrize(("write", "read"), [("router", "ambassador"), ("ambassador", "router")])
def test_what_came_one_way_is_found_the_other(routed: Routed, write: str, read: str) -> None:
    routed.filled(getattr(routed, write))

    def all_right() -> bool:
        assert set(routed.ask("read", at=getattr(routed, read))) == {"right"}
        return True

    eventually(all_right, 60, f"every key is read through the {read}")


def test_a_shard_that_is_lost_takes_its_keys_alone(routed: Routed) -> None:
    routed.filled(routed.router)
    before = routed.kube.ready_pod(routed.namespace, "shards-1", 60)
    routed.kube.delete_pod(before)

    def back() -> Pod | None:
        return routed.kube.ready_pod(routed.namespace, "shards-1", 180, not_uid=before.uid)

    eventually(back, 180, "the shard is back")

    def others_answer() -> bool:
        found = routed.ask("read", at=routed.router)
        # What it had in memory is gone; memcached says so, without an error.
        wanted = ["END" if owner == 1 else "right" for owner in OWNERS]
        assert found == wanted
        return True

    eventually(others_answer, 60, "the keys of the others are there, and its own are not")
