from collections.abc import Mapping
from typing import Any

import pytest

from toolchain.plugins.kubernetes import annotation, kinds, settings
from toolchain.plugins.kubernetes.failure import summary, unready
from toolchain.plugins.kubernetes.readiness import conditions
from toolchain.plugins.kubernetes.readiness.rules import rule_for
from toolchain.plugins.kubernetes.wait import Phase, Verdict
from toolchain.plugins.provider.errors import ProviderError
from toolchain.plugins.provider.values import UNKNOWN


def judged(kind: str, thing: Mapping[str, Any], *others: Mapping[str, Any]) -> Verdict:
    rule = rule_for(kind, thing)
    assert rule is not None
    return rule.judge(thing, others)


def workload(spec: dict[str, Any], status: dict[str, Any], generation: int = 2) -> dict[str, Any]:
    return {"metadata": {"name": "x", "generation": generation}, "spec": spec, "status": status}


def condition(kind: str, status: str = "True", **more: str) -> dict[str, str]:
    return {"type": kind, "status": status, **more}


SEEN = {"observedGeneration": 2}


@pytest.mark.parametrize(
    ("status", "phase", "message"),
    [
        ({"observedGeneration": 1}, Phase.PENDING, "not seen"),
        ({**SEEN, "updatedReplicas": 1}, Phase.PENDING, "1 of 2 replicas updated"),
        (
            {**SEEN, "updatedReplicas": 2, "availableReplicas": 1, "replicas": 2},
            Phase.PENDING,
            "1 of 2 replicas available",
        ),
        (
            {**SEEN, "updatedReplicas": 2, "availableReplicas": 2, "replicas": 3},
            Phase.PENDING,
            "1 old replicas",
        ),
        ({**SEEN, "updatedReplicas": 2, "availableReplicas": 2, "replicas": 2}, Phase.DONE, ""),
        (
            {
                **SEEN,
                "conditions": [
                    condition(
                        "Progressing", "False", reason="ProgressDeadlineExceeded", message="m"
                    )
                ],
            },
            Phase.FAILED,
            "no progress: m",
        ),
    ],
)
def test_a_deployment_is_ready_when_its_rollout_is_over(
    status: dict[str, Any], phase: Phase, message: str
) -> None:
    verdict = judged("apps/Deployment", workload({"replicas": 2}, status), {})
    assert verdict.phase is phase
    assert message in verdict.message


@pytest.mark.parametrize(
    ("spec", "status", "phase"),
    [
        ({}, {"readyReplicas": 1}, Phase.PENDING),
        (
            {},
            {
                "readyReplicas": 2,
                "updateRevision": "b",
                "currentRevision": "a",
                "updatedReplicas": 1,
            },
            Phase.PENDING,
        ),
        (
            {"updateStrategy": {"rollingUpdate": {"partition": 1}}},
            {
                "readyReplicas": 2,
                "availableReplicas": 2,
                "updateRevision": "b",
                "currentRevision": "a",
                "updatedReplicas": 1,
            },
            Phase.DONE,
        ),
        ({"updateStrategy": {"type": "OnDelete"}}, {"readyReplicas": 2}, Phase.DONE),
        ({}, {"readyReplicas": 2, "availableReplicas": 2}, Phase.DONE),
    ],
)
def test_a_stateful_set_is_ready_when_every_replica_is_new_and_ready(
    spec: dict[str, Any], status: dict[str, Any], phase: Phase
) -> None:
    thing = workload({"replicas": 2, **spec}, {**SEEN, **status})
    assert judged("apps/StatefulSet", thing, {}).phase is phase


@pytest.mark.parametrize(
    ("spec", "conditions_", "phase"),
    [
        ({}, [], Phase.PENDING),
        ({}, [condition("Complete")], Phase.DONE),
        ({}, [condition("Failed", reason="DeadlineExceeded", message="m")], Phase.FAILED),
        ({"suspend": True}, [], Phase.DONE),
    ],
)
def test_a_job_is_waited_for_until_it_is_complete_or_failed(
    spec: dict[str, Any], conditions_: list[Any], phase: Phase
) -> None:
    thing = workload(spec, {"conditions": conditions_})
    assert judged("batch/Job", thing, {}).phase is phase


def test_a_service_needs_one_ready_endpoint() -> None:
    thing: dict[str, Any] = {"metadata": {"name": "x"}, "spec": {"selector": {"a": "b"}}}
    ready = {"one": {"endpoints": [{"conditions": {"ready": True}}]}}
    unready_ = {"one": {"endpoints": [{"conditions": {"ready": False}}]}}
    assert judged("Service", thing, ready).phase is Phase.DONE
    assert "none of the 1 pods" in judged("Service", thing, unready_).message
    assert "do the labels match" in judged("Service", thing, {}).message
    thing["spec"]["type"] = "LoadBalancer"
    assert "load balancer" in judged("Service", thing, ready).message


def test_nothing_is_waited_for_if_the_program_says_so() -> None:
    marks = {"metadata": {"annotations": {"pulumi.com/skipAwait": "true"}}, "spec": {}}
    assert rule_for("apps/Deployment", marks) is None
    assert rule_for("ConfigMap", {"metadata": {}}) is None


def pod(status: dict[str, Any], name: str = "p") -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": status}


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "app", "ready": False, "state": state, **more}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (
            {
                "conditions": [
                    condition("PodScheduled", "False", reason="Unschedulable", message="0/2 nodes")
                ]
            },
            "pod p: Unschedulable: 0/2 nodes",
        ),
        (
            {
                "containerStatuses": [
                    container({"waiting": {"reason": "ImagePullBackOff", "message": "no such"}})
                ]
            },
            "pod p: container app: ImagePullBackOff: no such",
        ),
        (
            {
                "containerStatuses": [
                    container(
                        {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                        lastState={"terminated": {"exitCode": 3, "reason": "Error"}},
                    )
                ]
            },
            "pod p: container app: CrashLoopBackOff (exit code 3): back-off",
        ),
        (
            {
                "containerStatuses": [
                    container({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})
                ]
            },
            "pod p: container app: OOMKilled, exit code 137",
        ),
        (
            {"containerStatuses": [container({"running": {}})]},
            "pod p: container app: running, not ready",
        ),
        (
            {"initContainerStatuses": [container({"waiting": {"reason": "ErrImagePull"}})]},
            "pod p: container app: ErrImagePull",
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "disk"},
            "pod p: failed: Evicted: disk",
        ),
        ({"phase": "Pending"}, "pod p: Pending"),
    ],
)
def test_a_pods_trouble_is_one_line(status: dict[str, Any], text: str) -> None:
    assert summary(pod(status)) == text


def test_the_pod_that_tells_most_comes_first() -> None:
    pods = [
        pod({"containerStatuses": [container({"waiting": {"reason": "ContainerCreating"}})]}, "a"),
        pod({"containerStatuses": [container({"waiting": {"reason": "ErrImagePull"}})]}, "b"),
        pod({"conditions": [condition("Ready")]}, "ready"),
        pod({"phase": "Succeeded"}, "done"),
    ]
    assert [one["metadata"]["name"] for one in unready(pods)] == ["b", "a"]


THING = {
    "metadata": {"name": "x"},
    "status": {
        "phase": "Running",
        "count": 3,
        "list": [{"ip": "1.2.3.4"}],
        "conditions": [condition("Ready", "False"), condition("Other")],
    },
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("condition=Other", True),
        ("condition=Ready", False),
        ("condition=Ready=False", True),
        ("jsonpath={.status.phase}=Running", True),
        ("jsonpath={.status.phase}=Failed", False),
        ("jsonpath={.status.count}=3", True),
        ("jsonpath={.status.list[0].ip}", True),
        ("jsonpath={.status.list[1].ip}", False),
        ('jsonpath={.status.conditions[?(@.type=="Ready")].status}=False', True),
        ('["condition=Other", "jsonpath={.status.phase}=Running"]', True),
        ('["condition=Other", "condition=Ready"]', False),
    ],
)
def test_wait_for_reads_conditions_and_paths(text: str, holds: bool) -> None:
    assert (conditions.rule(text).judge(THING, ()).phase is Phase.DONE) is holds


@pytest.mark.parametrize(
    "text", ["", "ready", "jsonpath=.status", "[]", "[1]", "jsonpath={status}"]
)
def test_wait_for_refuses_what_it_cannot_read(text: str) -> None:
    with pytest.raises(ProviderError, match="waitFor"):
        conditions.rule(text)


def test_the_bound_is_the_programs_or_the_annotations_or_the_kinds() -> None:
    marked = {"metadata": {"annotations": {"pulumi.com/timeoutSeconds": "7"}}}
    assert annotation.seconds(marked, 3.0, 600.0) == 3.0
    assert annotation.seconds(marked, 0.0, 600.0) == 7.0
    assert annotation.seconds({}, 0.0, 600.0) == 600.0
    marked["metadata"]["annotations"]["pulumi.com/timeoutSeconds"] = "soon"
    with pytest.raises(ProviderError, match="'soon'"):
        annotation.seconds(marked, 0.0, 600.0)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("kubernetes:core/v1:ConfigMap", None),
        ("kubernetes:apps/v1:Deployment", None),
        ("kubernetes:autoscaling/v2:HorizontalPodAutoscaler", None),
        ("kubernetes:example.org/v1:Widget", None),
        ("kubernetes:example.org/v1:WidgetList", "lists are only"),
        ("kubernetes:core/v1:ConfigMapList", "lists are only"),
        ("kubernetes:core/v1:ConfigMapPatch", "patches"),
        ("kubernetes:apps/v1:Deploymnt", "apps/v1 has"),
        ("kubernetes:apps/v1beta1:Deployment", "supported versions are"),
        ("kubernetes:helm.sh/v3:Release", "charts"),
        ("kubernetes:yaml/v2:ConfigFile", "charts"),
        ("kubernetes:kustomize/v2:Directory", "charts"),
        ("kubernetes:future.k8s.io/v1:Thing", "supported versions are"),
        ("kubernetes:x", "is not a type"),
    ],
)
def test_types_are_known_or_refused_by_name(token: str, text: str | None) -> None:
    why = kinds.refusal(token)
    assert (why is None) if text is None else (why is not None and text in why and token in why)


def test_paths_follow_group_and_scope() -> None:
    assert kinds.get("v1", "Secret").path("n", "x") == "/api/v1/namespaces/n/secrets/x"
    assert kinds.get("apps/v1", "Deployment").group_kind == "apps/Deployment"
    assert kinds.get("v1", "Namespace").path(None, "x") == "/api/v1/namespaces/x"
    role = kinds.get("rbac.authorization.k8s.io/v1", "ClusterRole")
    assert role.collection("ignored") == "/apis/rbac.authorization.k8s.io/v1/clusterroles"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"kubeconfig": "x", "version": "4.34.2", "enableConfigMapMutable": "true"}, None),
        ({"kubeconfig": UNKNOWN}, None),
        ({"kubeClientSettings": '{"burst": 10}'}, None),
        ({"namespaces": "x"}, "is namespace meant?"),
        ({"enableServerSideApply": "false"}, "only applies"),
        ({"enableSecretMutable": "maybe"}, "true or false"),
        ({"renderYamlToDirectory": "x"}, "not supported"),
        ({"kubeClientSettings": {"bursts": 1}}, "known are burst"),
    ],
)
def test_provider_arguments_are_known_or_refused_by_name(
    arguments: dict[str, Any], text: str | None
) -> None:
    found = settings.failures(arguments)
    assert (not found) if text is None else (len(found) == 1 and text in found[0].reason)


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_K8S_DELETE_UNREACHABLE", "true")
    assert settings.read({}).delete_unreachable
    assert not settings.read({"deleteUnreachable": "false"}).delete_unreachable
    assert not settings.read({"kubeconfig": UNKNOWN}).known
    assert settings.read({"kubeconfig": '{"a": 1}'}).kubeconfig == '{"a": 1}'
