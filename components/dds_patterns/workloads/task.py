"""Task: a Job with all that belongs to it."""

import pulumi
from pulumi_kubernetes.batch.v1 import Job

from dds_patterns.arguments import resolved
from dds_patterns.workloads.job import JobTemplate, plan_job
from dds_patterns.workloads.job_arguments import JobArgs
from dds_patterns.workloads.pod import make_pod_resources

# The engine's timeout is longer than the Job's, so that the error is the Job's own.
_SLACK_SECONDS = 60
# Fields that are immutable in the API, which the provider does not know.
_IMMUTABLE = ("backoffLimitPerIndex", "completionMode", "podFailurePolicy", "successPolicy")


class TaskArgs(JobArgs):
    """Arguments of Task."""


class Task(pulumi.ComponentResource):
    """A program that runs to completion.

    Registers a Job, a ServiceAccount and a NetworkPolicy that denies all connections but the declared
    ones. The deployment waits for it and fails if it fails. It runs again if its pod, its indexes or
    its rules change, and if it had failed.
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
        :raises InputError: an invalid argument, before anything is registered
        """
        plan = _plan(name, args, f'Task "{name}"')
        super().__init__("dds:index:Task", name, {"image": plan.args["image"]}, opts)
        self.labels = dict(plan.pod.selector)
        resources = make_pod_resources(plan.pod, self)
        waited = f"{plan.args['timeout_seconds'] + _SLACK_SECONDS}s"
        self.job = Job(
            name,
            # Otherwise an update does not retry a failed Job until its spec changes.
            metadata=plan.pod.metadata(annotations={"pulumi.com/replaceUnready": "true"}),
            spec=plan.spec(resources.template),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*resources.dependencies],
                replace_on_changes=[f"spec.{field}" for field in _IMMUTABLE],
                custom_timeouts=pulumi.CustomTimeouts(create=waited, update=waited),
            ),
        )
        self.register_outputs({"labels": self.labels})

    @staticmethod
    def validate(where: str, name: str, args: TaskArgs) -> None:
        """Check the arguments for a component that is made of a Task.

        :param where: that component, for messages
        """
        _plan(name, args, where)


def _plan(name: str, args: TaskArgs, where: str) -> JobTemplate:
    return plan_job(where, name, resolved(where, TaskArgs, args), component="task")
