"""Task: a Job with all that belongs to it."""

from typing import NotRequired

import pulumi
from pulumi_kubernetes.batch.v1 import Job

from components.values import checks
from components.values.names import AUTONAME
from components.workloads.arguments import PodArgs
from components.workloads.pod import PodPlan, make_pod_resources, plan_pod

# Beyond the Job's own name a pod adds a dash and five characters.
_RESERVE = AUTONAME + 6
# The engine waits a little longer than the Job may take, so that the Job's own reason is what fails.
_SLACK_SECONDS = 60
_LOWEST = {"timeout_seconds": 1, "retries": 0, "parallelism": 1, "completions": 1}


class TaskArgs(PodArgs):
    """Arguments of Task."""

    timeout_seconds: NotRequired[int]
    """Seconds for all tries together, at least 1. Defaults to 600."""
    retries: NotRequired[int]
    """Tries after the first one has failed, at least 0. Defaults to 2."""
    parallelism: NotRequired[int]
    """Pods at the same time, at least 1. Defaults to 1."""
    completions: NotRequired[int]
    """Pods that must succeed, at least 1. Defaults to 1."""


class Task(pulumi.ComponentResource):
    """A program that runs to its end.

    Registers a Job, a ServiceAccount and a NetworkPolicy that lets nothing through but the given
    edges. The deployment waits for it and fails when it fails. It runs again when anything of its
    pod changes, and when it had failed.
    """

    labels: dict[str, str]
    """Labels that select the pods."""
    job: Job
    """The Job."""

    def __init__(
        self, name: str, args: TaskArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the task.

        :param name: a DNS label of at most 48 characters
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        plan = _plan(name, args, f'Task "{name}"')
        timeout = args.get("timeout_seconds", 600)
        super().__init__("dds:index:Task", name, {"image": args["image"]}, opts)
        self.labels = dict(plan.selector)
        resources = make_pod_resources(plan, self)
        self.job = Job(
            name,
            metadata={
                **plan.metadata(),
                # Otherwise a Job that failed once stays failed until something of it changes.
                "annotations": {"pulumi.com/replaceUnready": "true"},
            },
            spec={
                "active_deadline_seconds": timeout,
                "backoff_limit": args.get("retries", 2),
                "parallelism": args.get("parallelism", 1),
                "completions": args.get("completions", 1),
                "template": resources.template,
            },
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*resources.dependencies],
                custom_timeouts=pulumi.CustomTimeouts(
                    create=f"{timeout + _SLACK_SECONDS}s", update=f"{timeout + _SLACK_SECONDS}s"
                ),
            ),
        )
        self.register_outputs({"labels": self.labels})

    @staticmethod
    def validate(where: str, name: str, args: TaskArgs) -> None:
        """Check the arguments for a component that is made of a Task.

        :param where: that component, so that messages name it
        """
        _plan(name, args, where)


def _plan(name: str, args: TaskArgs, where: str) -> PodPlan:
    checks.known_arguments(where, TaskArgs, args)
    for argument, lowest in _LOWEST.items():
        if argument in args:
            checks.integer(where, argument, args[argument], minimum=lowest)  # type: ignore[literal-required]
    return plan_pod(where, name, args, component="task", reserve=_RESERVE, restart_policy="Never")
