"""TaskTemplate: the manifest of a Job that other programs create, as often as they need."""

import pulumi

from dds_patterns.arguments import resolved
from dds_patterns.pods.companion import Rule
from dds_patterns.workloads.job import JobTemplate, plan_job
from dds_patterns.workloads.job_arguments import JobArgs
from dds_patterns.workloads.pod import make_pod_resources


class TaskTemplateArgs(JobArgs):
    """Arguments of TaskTemplate."""


class TaskTemplate(pulumi.ComponentResource):
    """A program that runs to completion whenever another program creates a Job from it.

    Registers what its pods need, a ServiceAccount and a NetworkPolicy that denies all connections but
    the declared ones, and no Job.
    """

    labels: dict[str, str]
    """Labels that select the pods, and the Jobs."""
    manifest: pulumi.Output[str]
    """A Job as JSON. It has a ``generateName``; for idempotent creation a program sets
    ``metadata.name`` instead, at most nine characters longer than the template's."""
    rules: tuple[Rule, ...]
    """RBAC rules for the program that creates the Jobs, to add to its ``rules``."""

    def __init__(
        self, name: str, args: TaskTemplateArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the template.

        :param name: a DNS label of at most 48 characters
        :raises InputError: an invalid argument, before anything is registered
        """
        plan = _plan(name, args, f'TaskTemplate "{name}"')
        super().__init__("dds:index:TaskTemplate", name, {"image": plan.args["image"]}, opts)
        self.labels = dict(plan.pod.selector)
        self.manifest = plan.manifest(make_pod_resources(plan.pod, self))
        verbs = ("create", "get", "list", "watch", "delete")
        self.rules = (Rule(("jobs",), verbs, group="batch"),)
        self.register_outputs({"labels": self.labels, "manifest": self.manifest})

    @staticmethod
    def validate(where: str, name: str, args: TaskTemplateArgs) -> None:
        """Check the arguments for a component that is made of a TaskTemplate.

        :param where: that component, for messages
        """
        _plan(name, args, where)


def _plan(name: str, args: TaskTemplateArgs, where: str) -> JobTemplate:
    args = resolved(where, TaskTemplateArgs, args)
    return plan_job(where, name, args, component="task-template")
