"""Task: a Job with all that belongs to it."""

from typing import Annotated, NotRequired

import pulumi
from pulumi_kubernetes.batch.v1 import Job

from components.arguments import Default, between, resolved
from components.pods.hosting import PodHosting
from components.values.names import AUTONAME
from components.workloads.arguments import PodArgs
from components.workloads.pod import PodPlan, make_pod_resources, plan_pod

# Beyond the Job's own name a pod adds a dash and five characters.
_RESERVE = AUTONAME + 6
# The engine waits a little longer than the Job may take, so that the Job's own reason is what fails.
_SLACK_SECONDS = 60


class TaskArgs(PodArgs):
    """Arguments of Task."""

    timeout_seconds: NotRequired[Annotated[int, between(1, 604_800), Default(600)]]
    """Seconds for all tries together."""
    retries: NotRequired[Annotated[int, between(0, 1000), Default(2)]]
    """Tries after the first one has failed."""
    parallelism: NotRequired[Annotated[int, between(1, 100_000), Default(1)]]
    """Pods at the same time."""
    completions: NotRequired[Annotated[int, between(1, 100_000), Default(1)]]
    """Pods that must succeed."""
    hosting: NotRequired[Annotated[PodHosting, Default({})]]
    """Namespace, labels, nodes and resources."""


class Task(pulumi.ComponentResource):
    """A program that runs to its end.

    Registers a Job, a ServiceAccount and a NetworkPolicy that lets nothing through but what
    is declared. The deployment waits for it and fails when it fails. It runs again when anything of its
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
        args, plan = _plan(name, args, f'Task "{name}"')
        timeout = args["timeout_seconds"]
        super().__init__("dds:index:Task", name, {"image": args["image"]}, opts)
        self.labels = dict(plan.selector)
        resources = make_pod_resources(plan, self)
        self.job = Job(
            name,
            # Otherwise a Job that failed once stays failed until something of it changes.
            metadata=plan.metadata(annotations={"pulumi.com/replaceUnready": "true"}),
            spec={
                "active_deadline_seconds": timeout,
                "backoff_limit": args["retries"],
                "parallelism": args["parallelism"],
                "completions": args["completions"],
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


def _plan(name: str, args: TaskArgs, where: str) -> tuple[TaskArgs, PodPlan]:
    args = resolved(where, TaskArgs, args)
    return args, plan_pod(
        where,
        name,
        args,
        args["hosting"],
        component="task",
        reserve=_RESERVE,
        restart_policy="Never",
    )
