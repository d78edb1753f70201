"""Volumes grow under their pods, and what is on them outlives replicas and the workload."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.live.support.cluster import Cluster
from tests.live.support.kube import Kube, Pod
from tests.live.support.stacks import PROGRAMS, Stack, UpdateError, throwaway, words
from tests.live.support.variants import built_images
from tests.live.support.waiting import eventually

CLAIM = "PersistentVolumeClaim"
WRITE = "import sys; open('/data/word', 'w').write(sys.argv[1])"
READ = "print(open('/data/word').read())"
SMALL, LARGE = "64Mi", "128Mi"


@dataclass
class Kept:
    """The deployed program."""

    kube: Kube
    stack: Stack
    namespace: str
    storage_class: str

    def pods(self, count: int) -> list[Pod]:
        """All pods, when there are so many and all are ready."""

        def condition() -> list[Pod] | None:
            pods = self.kube.pods(self.namespace)
            return pods if len(pods) == count and all(pod.ready for pod in pods) else None

        found = eventually(
            condition, 120, lambda: f"{count} pods\n{self.kube.describe(self.namespace)}"
        )
        assert found is not None
        return found

    def claims(self) -> dict[str, Any]:
        """Those that are there, by name."""
        found = self.kube.objects("v1", CLAIM, self.namespace)
        return {claim["metadata"]["name"]: claim for claim in found}

    def requested(self) -> dict[str, str]:
        """The size that each asks for."""
        return {
            name: claim["spec"]["resources"]["requests"]["storage"]
            for name, claim in self.claims().items()
        }

    def lose(self, ordinal: int) -> None:
        """Delete a claim with what is on it; the StatefulSet makes another one from its template."""
        name = f"kept-{ordinal}"
        (lost,) = [pod for pod in self.pods(2) if pod.name == name]
        # It goes with the pod that uses it.
        self.kube.delete("v1", CLAIM, self.namespace, f"data-{name}")
        self.kube.delete_pod(lost)
        self.kube.ready_pod(self.namespace, name, not_uid=lost.uid)
        # The template has stayed as it was.
        assert self.requested()[f"data-{name}"] == SMALL
        self.write()

    def write(self) -> None:
        """A file on each volume that says whose it is."""
        for pod in self.kube.pods(self.namespace):
            self.kube.run(pod, "kept", ["python3", "-c", WRITE, pod.name])

    def written(self, count: int) -> list[str]:
        """What is on the volume of each pod, in their order."""
        return [
            self.kube.run(pod, "kept", ["python3", "-c", READ]).strip() for pod in self.pods(count)
        ]


@contextmanager
def growing_class(kube: Kube, name: str) -> Iterator[None]:
    """A StorageClass whose volumes may ask for more. On the cluster nothing gives it to them, which
    is the business of a driver.
    """
    kube.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "rancher.io/local-path",
            "allowVolumeExpansion": True,
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    )
    try:
        yield
    finally:
        kube.delete("storage.k8s.io/v1", "StorageClass", "", name)


@pytest.fixture(scope="module")
def kept(cluster: Cluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("volumes")
    images = built_images(cluster, folder / "images", ("toolbox",))
    with (
        kube.namespace("volumes") as namespace,
        growing_class(kube, namespace),
        # The namespace takes the claims with it, which the stack would leave.
        throwaway(cluster, PROGRAMS / "volumes", folder / "stack", destroy=False) as stack,
    ):
        made = Kept(kube, stack, namespace, namespace)
        stack.up(
            namespace=namespace, images=dict(images), replicas=2, size=SMALL,
            **{"class": made.storage_class},
        )  # fmt: skip
        made.pods(2)
        made.write()
        yield made


def test_a_larger_size_resizes_the_claims_under_the_pods(kept: Kept) -> None:
    before = [pod.uid for pod in kept.pods(2)]
    update = kept.stack.up(size=LARGE)
    assert update.changed == {
        f"dds:index:StatefulApplication$kubernetes:core/v1:{CLAIM}::data-kept-{ordinal}": "update"
        for ordinal in range(2)
    }
    assert kept.requested() == {"data-kept-0": LARGE, "data-kept-1": LARGE}
    assert [pod.uid for pod in kept.pods(2)] == before
    assert kept.written(2) == ["kept-0", "kept-1"]
    assert kept.stack.up().changed == {}


def test_a_smaller_size_and_another_class_are_refused_and_nothing_is_lost(kept: Kept) -> None:
    before = [pod.uid for pod in kept.pods(2)]
    for changes, message in (
        ({"size": SMALL}, "can not be less than"),
        ({"size": LARGE, "class": f"{kept.storage_class}-other"}, "is immutable after creation"),
    ):
        kept.stack.set(**changes)
        # The cluster is asked by a preview already.
        for step in (kept.stack.preview, kept.stack.up):
            with pytest.raises(UpdateError) as caught:
                step()
            assert message in words(caught.value.output)
        assert [pod.uid for pod in kept.pods(2)] == before
    kept.stack.up(**{"class": kept.storage_class})
    assert [pod.uid for pod in kept.pods(2)] == before
    assert kept.requested() == {"data-kept-0": LARGE, "data-kept-1": LARGE}
    assert kept.written(2) == ["kept-0", "kept-1"]
    assert kept.stack.up().changed == {}


def test_a_claim_that_was_deleted_grows_again_after_a_refresh(kept: Kept) -> None:
    kept.lose(1)
    before = [pod.uid for pod in kept.pods(2)]
    kept.stack.run("refresh", "--yes", "--skip-preview", "--stack", kept.stack.name)
    kept.stack.up()
    assert kept.requested() == {"data-kept-0": LARGE, "data-kept-1": LARGE}
    assert [pod.uid for pod in kept.pods(2)] == before
    assert kept.stack.up().changed == {}


def test_a_claim_that_the_stateful_set_has_made_is_taken_over(kept: Kept) -> None:
    """As those of a deployment are that was made before claims were registered."""
    kept.lose(1)
    kept.stack.up(replicas=1)
    assert kept.requested() == {"data-kept-0": LARGE, "data-kept-1": SMALL}
    kept.stack.up(replicas=2)
    assert kept.requested() == {"data-kept-0": LARGE, "data-kept-1": LARGE}
    assert kept.written(2) == ["kept-0", "kept-1"]


def test_replicas_that_come_back_find_their_data(kept: Kept) -> None:
    before = {name: claim["metadata"]["uid"] for name, claim in kept.claims().items()}
    kept.stack.up(replicas=1)
    kept.pods(1)
    assert {name: claim["metadata"]["uid"] for name, claim in kept.claims().items()} == before
    kept.stack.up(replicas=2)
    assert kept.written(2) == ["kept-0", "kept-1"]


def test_a_workload_that_comes_back_finds_its_data(kept: Kept) -> None:
    before = {name: claim["metadata"]["uid"] for name, claim in kept.claims().items()}
    kept.stack.destroy()
    eventually(lambda: not kept.kube.pods(kept.namespace), 120, "the pods are gone")
    assert {name: claim["metadata"]["uid"] for name, claim in kept.claims().items()} == before
    kept.stack.up(replicas=2)
    assert kept.written(2) == ["kept-0", "kept-1"]
    assert {name: claim["metadata"]["uid"] for name, claim in kept.claims().items()} == before
    assert kept.stack.up().changed == {}
