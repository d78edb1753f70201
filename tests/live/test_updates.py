"""Updates: what changes rolls what uses it, and nothing else; checks gate a deployment."""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.support.cluster import Cluster
from tests.live.support.kube import Kube, Pod
from tests.live.support.sharded import Sharded
from tests.live.support.stacks import PROGRAMS, Stack, UpdateError, throwaway
from tests.live.support.waiting import eventually

DOCKERFILE = "FROM debian:bookworm-slim\nLABEL dds.live={mark}\nUSER 10001:10001\n"


@dataclass(frozen=True)
class Rollout:
    """The program ``rollout``, deployed, with the folder of its images."""

    kube: Kube
    stack: Stack
    namespace: str
    images: Path

    def pod(self, name: str) -> Pod:
        def condition() -> Pod | None:
            pods = self.kube.pods(self.namespace, {"app.kubernetes.io/instance": name})
            ready = [pod for pod in pods if pod.ready]
            return ready[0] if len(ready) == 1 else None

        found = eventually(condition, 60, f"one pod of {name}")
        assert found is not None
        return found

    def rebuild(self, name: str) -> None:
        """Change the Dockerfile of one image."""
        mark = secrets.token_hex(6)
        (self.images / name).mkdir(parents=True, exist_ok=True)
        (self.images / name / "Dockerfile").write_text(DOCKERFILE.format(mark=mark))


@pytest.fixture(scope="module")
def rollout(
    cluster: Cluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rollout]:
    folder = tmp_path_factory.mktemp("rollout")
    with (
        kube.namespace("rollout") as namespace,
        throwaway(cluster, PROGRAMS / "rollout", folder / "stack", destroy=False) as stack,
    ):
        deployed = Rollout(kube, stack, namespace, folder / "images")
        for name in ("one", "two"):
            deployed.rebuild(name)
        stack.up(namespace=namespace, registry=cluster.registry, folder=str(deployed.images))
        yield deployed


def test_a_second_up_changes_nothing(rollout: Rollout) -> None:
    pods = {name: rollout.pod(name).uid for name in ("one", "two")}
    assert rollout.stack.up().changed == {}
    assert {name: rollout.pod(name).uid for name in ("one", "two")} == pods


def test_a_second_up_of_the_store_changes_nothing(store: Sharded) -> None:
    assert store.stack.up().changed == {}


def test_a_changed_dockerfile_rolls_only_what_uses_the_image(rollout: Rollout) -> None:
    before = rollout.stack.outputs()
    pods = {name: rollout.pod(name).uid for name in ("one", "two")}
    rollout.rebuild("one")
    changed = rollout.stack.up().changed
    after = rollout.stack.outputs()
    assert after["one"] != before["one"]
    assert "@sha256:" in after["one"]
    assert after["two"] == before["two"]
    assert {name.rpartition("::")[2] for name in changed} == {"images-one", "one"}, changed
    assert rollout.pod("one").uid != pods["one"]
    assert rollout.pod("two").uid == pods["two"]


def test_a_changed_file_rolls_only_the_workload_that_mounts_it(rollout: Rollout) -> None:
    pods = {name: rollout.pod(name).uid for name in ("one", "two")}
    message = secrets.token_hex(8)
    rollout.stack.up(**{"message-two": message})
    assert rollout.pod("one").uid == pods["one"]
    new = rollout.pod("two")
    assert new.uid != pods["two"]
    assert rollout.kube.run(new, "two", ["cat", "/etc/live/message"]) == message
    maps = rollout.kube.objects("v1", "ConfigMap", rollout.namespace)
    named = [m["metadata"]["name"] for m in maps if m["metadata"]["name"].startswith("two-")]
    assert len(named) == 1, "the old ConfigMap is gone, the new one has a new name"


def test_drift_is_shown_and_repaired(rollout: Rollout, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = rollout.kube.objects(
        "apps/v1", "Deployment", rollout.namespace, "app.kubernetes.io/instance=one"
    )[0]
    name = deployment["metadata"]["name"]
    rollout.kube.apps.patch_namespaced_deployment(
        name, rollout.namespace, {"metadata": {"labels": {"app.kubernetes.io/part-of": "drift"}}}
    )
    rollout.stack.run("refresh", "--yes", "--skip-preview", "--stack", rollout.stack.name)
    monkeypatch.setitem(rollout.stack.cluster.environment, "PULUMI_K8S_ENABLE_PATCH_FORCE", "true")
    changed = rollout.stack.up().changed
    assert list(changed.values()) == ["update"], changed
    repaired = rollout.kube.apps.read_namespaced_deployment(name, rollout.namespace)
    assert (repaired.metadata.labels or {})["app.kubernetes.io/part-of"] != "drift"


def test_what_has_a_claim_is_stopped_before_it_is_started_anew(rollout: Rollout) -> None:
    """Also where the Deployment was a rolling one before."""
    rollout.stack.up(kept="true")
    deployment = rollout.kube.objects(
        "apps/v1", "Deployment", rollout.namespace, "app.kubernetes.io/instance=two"
    )[0]
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    first = rollout.pod("two")
    rollout.kube.run(first, "two", ["sh", "-c", "printf here > /data/word"])
    rollout.stack.up(**{"message-two": secrets.token_hex(8)})
    second = rollout.pod("two")
    assert second.uid != first.uid
    assert rollout.kube.run(second, "two", ["cat", "/data/word"]) == "here"


def test_a_singleton_without_ports_has_a_name(rollout: Rollout) -> None:
    rollout.stack.up(kept="true")
    labels = "app.kubernetes.io/instance=worker"
    (service,) = rollout.kube.objects("v1", "Service", rollout.namespace, labels)
    assert not service["spec"].get("ports")
    (pod,) = rollout.kube.objects("v1", "Pod", rollout.namespace, labels)
    assert "cpu" not in pod["spec"]["containers"][0]["resources"]["limits"]
    asking = rollout.pod("one")
    address = eventually(
        lambda: rollout.kube.run(asking, "one", ["getent", "hosts", "worker-0.worker"]),
        # What the cluster's DNS did not find it remembers as missing for half a minute.
        90,
        "the name of the Singleton's pod",
    )
    assert address.split()[0] == pod["status"]["podIP"]


# smoke tests


@pytest.fixture
def check(
    cluster: Cluster,
    namespace: str,
    images: Mapping[str, str],
    tmp_path: Path,
) -> Iterator[Stack]:
    with throwaway(cluster, PROGRAMS / "check", tmp_path / "stack", destroy=False) as stack:
        stack.set(namespace=namespace, image=images["toolbox"])
        yield stack


def test_a_broken_composition_fails_and_names_the_check(
    check: Stack, kube: Kube, namespace: str
) -> None:
    with pytest.raises(UpdateError) as failed:
        check.up(heard="nothing")
    assert "speaks" in failed.value.output
    assert "heard nothing" in failed.value.output, "the check's last words are in the error"

    repaired = check.up(heard="hello")
    assert "create" in repaired.changed.values() or "replace" in repaired.changed.values()
    jobs = kube.objects("batch/v1", "Job", namespace)
    assert [job["status"].get("succeeded") for job in jobs] == [1]

    ran = jobs[0]["metadata"]["uid"]
    assert check.up().changed == {}
    assert [j["metadata"]["uid"] for j in kube.objects("batch/v1", "Job", namespace)] == [ran]

    again = check.up(covered="second").changed
    assert again, "it runs again when what it covers changes"
    assert ran not in [j["metadata"]["uid"] for j in kube.objects("batch/v1", "Job", namespace)]
