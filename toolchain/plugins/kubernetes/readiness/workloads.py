"""Deployments, StatefulSets, DaemonSets, ReplicaSets and bare pods."""

from __future__ import annotations

from collections.abc import Sequence

from toolchain.plugins.kubernetes.failure import Findings, condition, is_ready, summary
from toolchain.plugins.kubernetes.readiness.rule import (
    Object,
    Rule,
    is_observed,
    pod_reasons,
    pods_of,
    waiting_for,
)
from toolchain.plugins.kubernetes.wait import DONE, Objects, Verdict, failed, pending

_MINUTES = 60.0


def _deployment(thing: Object, others: Sequence[Objects]) -> Verdict:
    spec, status = thing["spec"], thing.get("status") or {}
    if spec.get("paused"):
        return DONE
    if not is_observed(thing):
        return pending("not seen by the deployment controller yet")
    progressing = condition(thing, "Progressing")
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return failed(f"the rollout made no progress: {progressing.get('message')}")
    wanted = spec.get("replicas", 1)
    updated = status.get("updatedReplicas") or 0
    if updated < wanted:
        return waiting_for(f"{updated} of {wanted} replicas updated", others)
    available = status.get("availableReplicas") or 0
    if available < updated:
        return waiting_for(f"{available} of {updated} replicas available", others)
    total = status.get("replicas") or 0
    if total > updated:
        return pending(f"{total - updated} old replicas are ending")
    return DONE


def _deployment_reasons(findings: Findings, thing: Object, others: Sequence[Objects]) -> list[str]:
    labels = (thing["spec"].get("selector") or {}).get("matchLabels") or {}
    owned = [
        one
        for one in findings.labelled("apps/v1", "ReplicaSet", labels)
        if any(
            owner.get("uid") == thing["metadata"].get("uid")
            for owner in one["metadata"].get("ownerReferences") or ()
        )
    ]
    revision = max(owned, key=_revision, default=None)
    if revision is None:
        return pod_reasons(findings, thing, others)
    key = "pod-template-hash"
    current = (revision["metadata"].get("labels") or {}).get(key)
    pods = [
        pod
        for view in others
        for pod in view.values()
        if (pod["metadata"].get("labels") or {}).get(key) == current
    ]
    lines = findings.pods(pods)
    refused = condition(revision, "ReplicaFailure")
    if refused.get("message"):
        lines.append(f"no pod could be made: {refused['message']}")
    return lines or findings.events(revision) or findings.events(thing)


def _revision(replica_set: Object) -> int:
    marks = replica_set["metadata"].get("annotations") or {}
    return int(marks.get("deployment.kubernetes.io/revision", "0"))


def _stateful_set(thing: Object, others: Sequence[Objects]) -> Verdict:
    spec, status = thing["spec"], thing.get("status") or {}
    strategy = spec.get("updateStrategy") or {}
    if not is_observed(thing):
        return pending("not seen by the statefulset controller yet")
    wanted = spec.get("replicas", 1)
    ready = status.get("readyReplicas") or 0
    if ready < wanted:
        return waiting_for(f"{ready} of {wanted} replicas ready", others)
    if strategy.get("type") == "OnDelete":
        return DONE
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    if status.get("updateRevision") != status.get("currentRevision"):
        updated = status.get("updatedReplicas") or 0
        if updated < max(0, wanted - partition):
            return waiting_for(f"{updated} of {wanted} replicas updated", others)
    available = status.get("availableReplicas") or 0
    if available < wanted:
        return waiting_for(f"{available} of {wanted} replicas available", others)
    return DONE


def _daemon_set(thing: Object, others: Sequence[Objects]) -> Verdict:
    status = thing.get("status") or {}
    if not is_observed(thing):
        return pending("not seen by the daemonset controller yet")
    wanted = status.get("desiredNumberScheduled") or 0
    if (thing["spec"].get("updateStrategy") or {}).get("type") != "OnDelete":
        updated = status.get("updatedNumberScheduled") or 0
        if updated < wanted:
            return waiting_for(f"{updated} of {wanted} pods updated", others)
    available = status.get("numberAvailable") or 0
    if available < wanted:
        return waiting_for(f"{available} of {wanted} pods available", others)
    return DONE


def _replica_set(thing: Object, others: Sequence[Objects]) -> Verdict:
    wanted = thing["spec"].get("replicas", 1)
    available = (thing.get("status") or {}).get("availableReplicas") or 0
    if not is_observed(thing) or available < wanted:
        return waiting_for(f"{available} of {wanted} replicas available", others)
    return DONE


def _pod(thing: Object, others: Sequence[Objects]) -> Verdict:  # noqa: ARG001
    phase = (thing.get("status") or {}).get("phase")
    if phase == "Succeeded" or is_ready(thing):
        return DONE
    return failed(summary(thing)) if phase == "Failed" else pending(summary(thing))


def _reasons_of_pod(findings: Findings, thing: Object, others: Sequence[Objects]) -> list[str]:  # noqa: ARG001
    return findings.pods([thing])


DEPLOYMENT = Rule(_deployment, 10 * _MINUTES, pods_of, _deployment_reasons)
STATEFUL_SET = Rule(_stateful_set, 10 * _MINUTES, pods_of, pod_reasons)
DAEMON_SET = Rule(_daemon_set, 10 * _MINUTES, pods_of, pod_reasons)
REPLICA_SET = Rule(_replica_set, 10 * _MINUTES, pods_of, pod_reasons)
POD = Rule(_pod, 10 * _MINUTES, reasons=_reasons_of_pod)
