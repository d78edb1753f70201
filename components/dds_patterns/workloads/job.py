"""A Job's spec, for a Job, for a CronJob, and as JSON for a program that creates Jobs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import pulumi
from pulumi_kubernetes.batch.v1 import JobArgsDict, JobSpecArgsDict
from pulumi_kubernetes.core.v1 import PodTemplateSpecArgsDict

from dds_patterns.arguments import nearest
from dds_patterns.arguments.names import LABEL_LIMIT
from dds_patterns.arguments.place import Place
from dds_patterns.arguments.shapes import on_the_wire
from dds_patterns.values.names import AUTONAME
from dds_patterns.workloads.job_arguments import ACTIONS, FailureRuleArgs, JobArgs, intervals
from dds_patterns.workloads.pod import PodPlan, PodResources, plan_pod

# A pod adds a dash and five characters to its Job's name; the host name of one with an index adds a
# dash and at most five digits.
JOB_RESERVE = AUTONAME + 6
"""Characters that the Job's generated name, and its pods', add to the component's name."""
LONGEST_TASK = LABEL_LIMIT - JOB_RESERVE
"""Most characters of the name of a Task."""

_DISRUPTED = "DisruptionTarget"
_FIELDS = (
    "backoff_limit",
    "backoff_limit_per_index",
    "max_failed_indexes",
    "parallelism",
    "completions",
    "ttl_seconds_after_finished",
)
"""What the arguments and the spec call by the same name."""


@dataclass(frozen=True)
class JobTemplate:
    """A Job, checked before any resource is registered."""

    pod: PodPlan
    args: JobArgs

    def spec(self, template: PodTemplateSpecArgsDict) -> JobSpecArgsDict:
        """The Job's spec with these pods."""
        given = cast(Mapping[str, Any], self.args)
        spec: dict[str, Any] = {key: given[key] for key in _FIELDS if key in given}
        spec["active_deadline_seconds"] = given["timeout_seconds"]
        if self.args["indexed"]:
            spec["completion_mode"] = "Indexed"
        if success := self.args.get("success_policy"):
            spec["success_policy"] = {"rules": [dict(rule) for rule in success]}
        if rules := self.args["pod_failure_policy"]:
            made = [self._failure_rule(rule) for rule in rules]
            if not any(rule.get("pod_condition") == _DISRUPTED for rule in rules):
                # First, since such a pod also has an exit code, that of SIGTERM.
                made.insert(
                    0, self._failure_rule({"action": "ignore", "pod_condition": _DISRUPTED})
                )
            spec |= {"pod_failure_policy": {"rules": made}, "pod_replacement_policy": "Failed"}
        return cast(JobSpecArgsDict, {**spec, "template": template})

    def manifest(self, resources: PodResources) -> pulumi.Output[str]:
        """A Job's manifest as JSON, without a name, after all that its pods need is registered."""
        job: JobArgsDict = {
            "api_version": "batch/v1",
            "kind": "Job",
            "metadata": {
                **self.pod.metadata(),
                "generate_name": f"{self.pod.name}-",
                "namespace": resources.service_account.metadata["namespace"],
            },
            "spec": self.spec(resources.template),
        }
        needed = [resource.urn for resource in resources.dependencies]
        return pulumi.Output.all(job, needed).apply(
            lambda known: json.dumps(on_the_wire(JobArgsDict, known[0]), sort_keys=True)
        )

    def _failure_rule(self, rule: FailureRuleArgs) -> dict[str, Any]:
        action = {"action": ACTIONS[rule["action"]]}
        if "pod_condition" in rule:
            condition = {"type": rule["pod_condition"], "status": "True"}
            return {**action, "on_pod_conditions": [condition]}
        codes = {
            "container_name": rule.get("container", self.pod.selector["app.kubernetes.io/name"]),
            "operator": "In" if "exit_codes" in rule else "NotIn",
            "values": sorted(rule.get("exit_codes") or rule["exit_codes_not_in"]),
        }
        return {**action, "on_exit_codes": codes}


def plan_job(
    where: str,
    name: str,
    args: JobArgs,
    *,
    component: str,
    reserve: int = JOB_RESERVE,
    backoff_limit: int = 2,
) -> JobTemplate:
    """Check everything that concerns the Job and its pods.

    :param args: as they were resolved
    :param component: default of the label app.kubernetes.io/component
    :param reserve: characters that its objects add to the name
    :param backoff_limit: default of the argument
    """
    pod = plan_pod(
        where,
        name,
        args,
        args["hosting"],
        component=component,
        reserve=reserve,
        restart_policy="Never",
    )
    place = Place(where)
    _check_indexes(place, args)
    _check_success(place.key("success_policy"), args)
    _check_failure_rules(place.key("pod_failure_policy"), args, pod)
    if "backoff_limit_per_index" not in args:
        args = {"backoff_limit": backoff_limit, **args}
    return JobTemplate(pod, args)


def _check_indexes(place: Place, args: JobArgs) -> None:
    given = cast(Mapping[str, Any], args)
    for key, needed in (
        ("backoff_limit_per_index", "indexed"),
        ("success_policy", "indexed"),
        ("max_failed_indexes", "backoff_limit_per_index"),
    ):
        if given.get(key) not in (None, []) and given.get(needed, False) is False:
            place.key(key).refuse(given[key], f"must be left out without {needed}")
    if {"backoff_limit", "backoff_limit_per_index"} <= {*args}:
        place.key("backoff_limit").refuse(
            args["backoff_limit"], "must be left out with backoff_limit_per_index"
        )
    failed, completions = args.get("max_failed_indexes", 0), args["completions"]
    if failed > completions:
        place.key("max_failed_indexes").refuse(
            failed, f"must be at most {completions}, the completions"
        )


def _check_success(place: Place, args: JobArgs) -> None:
    completions = args["completions"]
    for position, rule in enumerate(args.get("success_policy", ())):
        at, among, what = place.entry(position), completions, "the completions"
        if "succeeded_indexes" in rule:
            indexes = intervals(rule["succeeded_indexes"])
            among, what = sum(last - first + 1 for first, last in indexes), "the indexes beside it"
            if indexes[-1][1] >= completions:
                at.key("succeeded_indexes").refuse(
                    rule["succeeded_indexes"], f"must be below {completions}, the completions"
                )
        count = rule.get("succeeded_count", 0)
        if count > among:
            at.key("succeeded_count").refuse(count, f"must be at most {among}, {what}")


def _check_failure_rules(place: Place, args: JobArgs, pod: PodPlan) -> None:
    containers = [
        pod.selector["app.kubernetes.io/name"],
        *(preparation["name"] for preparation in args["init_containers"]),
        *(str(each["name"]) for companion in pod.companions for each in companion.containers),
    ]
    for position, rule in enumerate(args["pod_failure_policy"]):
        at = place.entry(position)
        if rule["action"] == "fail_index" and "backoff_limit_per_index" not in args:
            at.key("action").refuse("fail_index", "needs backoff_limit_per_index")
        container = rule.get("container", containers[0])
        if container not in containers:
            at.key("container").refuse(container, nearest(container, containers))
