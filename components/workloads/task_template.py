"""TaskTemplate: a Job that other programs make, as often as they want."""

import pulumi

from components.arguments import resolved
from components.pods.companion import Rule
from components.workloads.job import JobTemplate, plan_job
from components.workloads.job_arguments import JobArgs
from components.workloads.pod import make_pod_resources


class TaskTemplateArgs(JobArgs):
    """Arguments of TaskTemplate."""


class TaskTemplate(pulumi.ComponentResource):
    """A program that runs to its end whenever another program makes a Job of it.

    Registers what its pods need, a ServiceAccount and a NetworkPolicy that lets nothing through but
    what is declared, and no Job.
    """

    labels: dict[str, str]
    """Labels that select the pods, and the Jobs."""
    manifest: pulumi.Output[str]
    """A Job as JSON. It has a ``generateName``; a program that must not make one twice sets
    ``metadata.name`` instead, of at most nine characters more than the template's."""
    rules: tuple[Rule, ...]
    """What a program that makes the Jobs may do at the cluster's API, among its ``rules``."""

    def __init__(
        self, name: str, args: TaskTemplateArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the template.

        :param name: a DNS label of at most 48 characters
        :raises InputError: an argument that cannot be right, before anything is registered
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

        :param where: that component, so that messages name it
        """
        _plan(name, args, where)


def _plan(name: str, args: TaskTemplateArgs, where: str) -> JobTemplate:
    args = resolved(where, TaskTemplateArgs, args)
    return plan_job(where, name, args, component="task-template")
