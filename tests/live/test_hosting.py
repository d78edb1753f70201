"""What a cluster's owner decides: nodes and zones, the way in from outside, marks of all objects."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.live.support.cluster import Cluster
from tests.live.support.kube import Kube, Pod
from tests.live.support.nodes import Nodes
from tests.live.support.stacks import PROGRAMS, Stack, UpdateError, throwaway, words
from tests.live.support.variants import built_images
from tests.live.support.waiting import eventually

# A taint, and zones, are the whole cluster's.
pytestmark = pytest.mark.alone

TAINT = "dds.test/hosting"
SECRET = "kept-by-somebody-else"
ZONE = "topology.kubernetes.io/zone"
KINDS = (
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("v1", "Pod"),
    ("v1", "PersistentVolumeClaim"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
)


@dataclass
class Hosted:
    """The deployed program."""

    kube: Kube
    nodes: Nodes
    stack: Stack
    namespace: str
    tainted: str
    zones: dict[str, str]
    """By node."""

    def keep(self, **words: str) -> None:
        """Change the Secret that somebody else keeps."""
        self.kube.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": SECRET, "namespace": self.namespace},
                "stringData": words,
            }
        )

    def pods(self, instance: str) -> list[Pod]:
        return self.kube.pods(self.namespace, {"app.kubernetes.io/instance": instance})

    def ready(self, instance: str, count: int) -> list[Pod]:
        """All pods of a workload, when there are so many and all are ready."""

        def condition() -> list[Pod] | None:
            pods = self.pods(instance)
            return pods if len(pods) == count and all(pod.ready for pod in pods) else None

        found = eventually(
            condition,
            120,
            lambda: f"{count} pods of {instance}\n{self.kube.describe(self.namespace)}",
        )
        assert found is not None
        return found

    def scale(self, instance: str, replicas: int) -> None:
        name = self.deployment(instance)["metadata"]["name"]
        self.kube.apps.patch_namespaced_deployment_scale(
            name, self.namespace, {"spec": {"replicas": replicas}}
        )

    def deployment(self, instance: str) -> Any:
        (found,) = self.kube.objects(
            "apps/v1", "Deployment", self.namespace, f"app.kubernetes.io/instance={instance}"
        )
        return found

    def unschedulable(self, instance: str) -> list[str]:
        """Names of the pods for which the scheduler has found no node."""
        return [
            pod["metadata"]["name"]
            for pod in self.kube.objects(
                "v1", "Pod", self.namespace, f"app.kubernetes.io/instance={instance}"
            )
            for condition in pod["status"].get("conditions", [])
            if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable"
        ]

    def answers(self, name: str) -> bool:
        """Whether a server answers at its port of a node."""
        node = self.nodes.container(self.tainted)
        (network,) = node.attrs["NetworkSettings"]["Networks"].values()
        port = self.stack.outputs()[name]
        try:
            return requests.get(f"http://{network['IPAddress']}:{port}/", timeout=3).ok
        except requests.RequestException:
            return False


@contextmanager
def zones(kube: Kube, by_node: dict[str, str]) -> Iterator[None]:
    """The nodes are in zones meanwhile."""
    for node, zone in by_node.items():
        kube.core.patch_node(node, {"metadata": {"labels": {ZONE: zone}}})
    try:
        yield
    finally:
        for node in by_node:
            kube.core.patch_node(node, {"metadata": {"labels": {ZONE: None}}})


@contextmanager
def taint(kube: Kube, node: str) -> Iterator[None]:
    """Only what tolerates it is scheduled to the node meanwhile."""
    kube.core.patch_node(node, {"spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}]}})
    try:
        yield
    finally:
        kube.core.patch_node(node, {"spec": {"taints": None}})


@pytest.fixture(scope="module")
def hosted(
    cluster: Cluster, kube: Kube, nodes: Nodes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hosted]:
    folder = tmp_path_factory.mktemp("hosting")
    images = built_images(cluster, folder / "images", ("toolbox",))
    first, *others = kube.nodes()
    by_node = {first: "a", **dict.fromkeys(others, "b")}
    with ExitStack() as kept:
        kept.enter_context(zones(kube, by_node))
        kept.enter_context(taint(kube, first))
        namespace = kept.enter_context(kube.namespace("hosting"))
        stack = kept.enter_context(throwaway(cluster, PROGRAMS / "hosting", folder / "stack"))
        hosted = Hosted(kube, nodes, stack, namespace, first, by_node)
        hosted.keep(word="swordfish")
        stack.up(
            namespace=namespace, images=dict(images), taint=TAINT, tainted=first, team="blue",
            secret=SECRET,
        )  # fmt: skip
        yield hosted


def test_strictly_spread_no_node_has_two(hosted: Hosted) -> None:
    assert len({pod.node for pod in hosted.ready("apart", 2)}) == 2
    hosted.scale("apart", 3)
    try:
        eventually(lambda: hosted.unschedulable("apart"), 60, "one has no node")
        assert len([pod for pod in hosted.pods("apart") if pod.ready]) == 2
    finally:
        hosted.scale("apart", 2)
    # Where it is only preferred, a third one has a place.
    assert {pod.node for pod in hosted.ready("preferred", 3)} == set(hosted.zones)


def test_a_rollout_needs_no_node_more_than_there_are_replicas(hosted: Hosted) -> None:
    before = {pod.uid for pod in hosted.ready("apart", 2)}
    hosted.kube.roll(hosted.namespace, "apart")

    def replaced() -> bool:
        pods = hosted.pods("apart")
        new = [pod for pod in pods if pod.uid not in before and pod.ready]
        return len(pods) == len(new) == 2

    eventually(replaced, 180, lambda: hosted.kube.describe(hosted.namespace))
    assert len({pod.node for pod in hosted.pods("apart")}) == 2


def test_a_zone_gets_one_pod_while_there_are_fewer_zones_than_wanted(hosted: Hosted) -> None:
    found = {hosted.zones[pod.node] for pod in hosted.ready("zoned", 2)}
    assert found == {"a", "b"}
    hosted.scale("zoned", 3)
    try:
        eventually(lambda: hosted.unschedulable("zoned"), 60, "one has no zone")
    finally:
        hosted.scale("zoned", 2)


def test_a_node_that_is_not_tolerated_does_not_count_as_an_empty_zone(hosted: Hosted) -> None:
    found = {pod.node for pod in hosted.ready("away", 3)}
    assert hosted.tainted not in found


def test_what_tolerates_a_taint_runs_there_with_its_priority(hosted: Hosted) -> None:
    (pod,) = hosted.ready("there", 1)
    assert pod.node == hosted.tainted
    raw = hosted.kube.core.read_namespaced_pod(pod.name, hosted.namespace)
    assert raw.spec.priority == 1000


def test_from_outside_only_clients_get_in_at_a_port_of_a_node(hosted: Hosted) -> None:
    hosted.ready("opened", 1)
    hosted.ready("shut", 1)
    eventually(lambda: hosted.answers("opened"), 60, "it answers")
    assert not hosted.answers("shut")


def test_other_labels_and_annotations_reach_all_objects_and_replace_none(hosted: Hosted) -> None:
    def objects() -> dict[str, tuple[str, str]]:
        return {
            f"{kind} {found['metadata']['name']}": (
                found["metadata"].get("labels", {}).get("team"),
                found["metadata"].get("annotations", {}).get("example.com/owner"),
            )
            for api, kind in KINDS
            for found in hosted.kube.objects(api, kind, hosted.namespace)
            if found["metadata"]["name"] != "default"
        }

    assert set(objects().values()) == {("blue", "blue")}
    update = hosted.stack.up(team="green")
    assert "replace" not in update.steps.values()
    # The old pods may still be on their way out.
    eventually(lambda: set(objects().values()) == {("green", "green")}, 120, lambda: f"{objects()}")


def test_a_secret_that_is_there_already_is_read_by_each_update(hosted: Hosted) -> None:
    def word() -> str:
        (pod,) = hosted.ready("reader", 1)
        return hosted.kube.run(pod, "reader", ["cat", "/etc/vault/word"])

    assert word() == "swordfish"
    hosted.keep(word="haddock")
    hosted.stack.up()
    eventually(lambda: word() == "haddock", 60, "the new word is there")
    # A preview says what is missing, without a traceback.
    hosted.kube.delete("v1", "Secret", hosted.namespace, SECRET)
    hosted.keep(phrase="haddock")
    with pytest.raises(UpdateError) as refused:
        hosted.stack.preview()
    assert "key is 'word'; must be the key of a text in" in words(refused.value.output)
    assert "Traceback" not in refused.value.output
    hosted.stack.set(secret="nobody-has-it")
    with pytest.raises(UpdateError, match="nobody-has-it"):
        hosted.stack.preview()
    hosted.stack.set(secret=SECRET)
