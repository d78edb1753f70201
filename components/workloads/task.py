"""Task: a Job with all that belongs to it."""

import pulumi
from pulumi_kubernetes.batch.v1 import Job

from components.arguments import resolved
from components.workloads.job import JobTemplate, plan_job
from components.workloads.job_arguments import JobArgs
from components.workloads.pod import make_pod_resources

# The engine waits a little longer than the Job may take, so that the Job's own reason is what fails.
_SLACK_SECONDS = 60
# What the API lets nobody change and the provider does not know to be so.
_IMMUTABLE = ("backoffLimitPerIndex", "completionMode", "podFailurePolicy", "successPolicy")


class TaskArgs(JobArgs):
    """Arguments of Task."""


class Task(pulumi.ComponentResource):
    """A program that runs to its end.

    Registers a Job, a ServiceAccount and a NetworkPolicy that lets nothing through but what
    is declared. The deployment waits for it and fails when it fails. It runs again when anything of its
    pod, its indexes or its rules changes, and when it had failed.
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
        super().__init__("dds:index:Task", name, {"image": plan.args["image"]}, opts)
        self.labels = dict(plan.pod.selector)
        resources = make_pod_resources(plan.pod, self)
        waited = f"{plan.args['timeout_seconds'] + _SLACK_SECONDS}s"
        self.job = Job(
            name,
            # Otherwise a Job that failed once stays failed until something of it changes.
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

        :param where: that component, so that messages name it
        """
        _plan(name, args, where)


def _plan(name: str, args: TaskArgs, where: str) -> JobTemplate:
    return plan_job(where, name, resolved(where, TaskArgs, args), component="task")
