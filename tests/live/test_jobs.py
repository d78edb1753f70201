"""Jobs end as their arguments say, those of the update and those that others make of a template."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes import client

from tests.live.support.cluster import Cluster
from tests.live.support.kube import Kube
from tests.live.support.stacks import PROGRAMS, Stack, throwaway
from tests.live.support.variants import built_images
from tests.live.support.waiting import eventually

INDEX = "batch.kubernetes.io/job-completion-index"


@dataclass
class Jobs:
    """The deployed program."""

    kube: Kube
    stack: Stack
    namespace: str
    manifests: Mapping[str, str]

    def create(self, template: str) -> str:
        """Make a Job of a template's text as `kubectl create` does; its name."""
        body = json.loads(self.manifests[template])
        made = self.kube.batch.create_namespaced_job(
            body["metadata"]["namespace"], body, field_validation="Strict"
        )
        return str(made.metadata.name)

    def names(self, instance: str = "") -> list[str]:
        """The Jobs that are there, or those of one component."""
        selector = f"app.kubernetes.io/instance={instance}" if instance else ""
        found = self.kube.batch.list_namespaced_job(self.namespace, label_selector=selector).items
        return [str(job.metadata.name) for job in found]

    def status(self, name: str) -> Any:
        return self.kube.batch.read_namespaced_job(name, self.namespace).status

    def conditions(self, name: str) -> dict[str, str]:
        """Those that are true, with their reasons."""
        found = self.status(name).conditions or []
        return {each.type: each.reason for each in found if each.status == "True"}

    def ended(self, name: str) -> Any:
        """The status of a Job that is complete or has failed."""
        eventually(
            lambda: {"Complete", "Failed"} & {*self.conditions(name)},
            120,
            lambda: f"{name} has ended\n{self.kube.describe(self.namespace)}",
        )
        return self.status(name)

    def pods(self, name: str) -> list[Any]:
        """All pods of a Job."""
        selector = f"batch.kubernetes.io/job-name={name}"
        found: list[Any] = self.kube.core.list_namespaced_pod(
            self.namespace, label_selector=selector
        ).items
        return found

    def running(self, name: str, other_than: str = "") -> Any:
        """The pod of a Job that runs."""

        def condition() -> Any:
            return next(
                (
                    pod
                    for pod in self.pods(name)
                    if pod.status.phase == "Running" and pod.metadata.uid != other_than
                ),
                None,
            )

        return eventually(
            condition, 120, lambda: f"a pod of {name} runs\n{self.kube.describe(self.namespace)}"
        )


@pytest.fixture(scope="module")
def jobs(cluster: Cluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    folder = tmp_path_factory.mktemp("jobs")
    images = built_images(cluster, folder / "images", ("toolbox",))
    with (
        kube.namespace("jobs") as namespace,
        # The namespace takes all with it when it goes.
        throwaway(cluster, PROGRAMS / "jobs", folder / "stack", destroy=False) as stack,
    ):
        stack.up(namespace=namespace, images=dict(images), enough="0,2")
        yield Jobs(kube, stack, namespace, stack.outputs())


def test_each_index_succeeds_once(jobs: Jobs) -> None:
    (name,) = jobs.names("each")
    status = jobs.ended(name)
    assert (status.completed_indexes, status.succeeded) == ("0-4", 5)
    succeeded = [pod for pod in jobs.pods(name) if pod.status.phase == "Succeeded"]
    indexes = {pod.metadata.annotations[INDEX]: pod for pod in succeeded}
    assert sorted(indexes) == ["0", "1", "2", "3", "4"]
    assert len(succeeded) == len(indexes)
    for index, pod in indexes.items():
        log = jobs.kube.core.read_namespaced_pod_log(pod.metadata.name, jobs.namespace)
        assert log.strip() == f"index {index}"


def test_a_job_is_complete_although_an_index_would_run_for_ever(jobs: Jobs) -> None:
    """The update has waited for it already."""
    (name,) = jobs.names("enough")
    assert jobs.ended(name).completed_indexes == "0,2"
    assert jobs.conditions(name)["SuccessCriteriaMet"] == "SuccessPolicy"
    eventually(
        lambda: all(pod.status.phase != "Running" for pod in jobs.pods(name)),
        120,
        lambda: f"nothing runs any more\n{jobs.kube.describe(jobs.namespace)}",
    )


def test_another_success_policy_replaces_the_job_and_nothing_else(jobs: Jobs) -> None:
    """The API server lets nobody change it."""
    assert jobs.stack.up().changed == {}
    update = jobs.stack.up(enough="2")
    assert update.changed == {"dds:index:Task$kubernetes:batch/v1:Job::enough": "replace"}
    (name,) = jobs.names("enough")
    assert "2" in jobs.ended(name).completed_indexes


def test_an_index_that_fails_leaves_the_others_alone(jobs: Jobs) -> None:
    name = jobs.create("apart")
    status = jobs.ended(name)
    assert (status.failed_indexes, status.completed_indexes) == ("1", "0,2,3")
    assert jobs.conditions(name)["Failed"] == "FailedIndexes"
    failed = [pod for pod in jobs.pods(name) if pod.status.phase == "Failed"]
    # Its first try and the one retry that it has.
    assert [pod.metadata.annotations[INDEX] for pod in failed] == ["1", "1"]


def test_an_exit_code_ends_a_job_without_another_try(jobs: Jobs) -> None:
    name = jobs.create("stopped")
    jobs.ended(name)
    assert jobs.conditions(name)["Failed"] == "PodFailurePolicy"
    assert len(jobs.pods(name)) == 1


def test_a_pod_that_is_evicted_is_no_failure(jobs: Jobs) -> None:
    """The Job has no retry, and a rule that fails it for the exit code of such a pod."""
    name = jobs.create("evicted")
    first = jobs.running(name).metadata
    eviction = client.V1Eviction(
        metadata=client.V1ObjectMeta(name=first.name, namespace=jobs.namespace)
    )
    jobs.kube.core.create_namespaced_pod_eviction(first.name, jobs.namespace, eviction)
    assert jobs.running(name, other_than=first.uid)
    assert jobs.conditions(name) == {}


def test_a_job_is_gone_after_its_time(jobs: Jobs) -> None:
    stays, goes = jobs.create("stopped"), jobs.create("gone")
    eventually(
        lambda: goes not in jobs.names() and not jobs.pods(goes),
        120,
        lambda: f"{goes} is gone\n{jobs.kube.describe(jobs.namespace)}",
    )
    jobs.ended(stays)
    assert stays in jobs.names()
