"""ScheduledTask: a CronJob with all that belongs to it."""

from typing import Annotated, NotRequired

import pulumi
from pulumi_kubernetes.batch.v1 import CronJob

from components.arguments import Default, between, resolved
from components.arguments.cron import Schedule
from components.arguments.declared import read
from components.arguments.engine import resolve
from components.arguments.place import Place
from components.pods.hosting import PodHosting, marks
from components.values.names import AUTONAME
from components.workloads.arguments import PodArgs
from components.workloads.pod import PodPlan, make_pod_resources, plan_pod

# A CronJob adds a dash and eight digits, the Job's pod a dash and five characters.
_RESERVE = AUTONAME + 9 + 6


class ScheduledTaskArgs(PodArgs):
    """Arguments of ScheduledTask."""

    schedule: Schedule
    """When it runs, in five fields as cron reads them (``17 3 * * *``), in UTC."""
    timeout_seconds: NotRequired[Annotated[int, between(1, 604_800), Default(600)]]
    """Seconds for all tries of one run together."""
    retries: NotRequired[Annotated[int, between(0, 1000), Default(1)]]
    """Tries after the first one has failed."""
    hosting: NotRequired[Annotated[PodHosting, Default({})]]
    """Namespace, labels, nodes and resources."""


class ScheduledTask(pulumi.ComponentResource):
    """A program that runs to its end, again and again; never twice at the same time.

    Registers a CronJob, a ServiceAccount and a NetworkPolicy that lets nothing through but what
    is declared. A run that fails does not fail the deployment: watch the Jobs.
    """

    labels: dict[str, str]
    """Labels that select the pods."""
    cron_job: CronJob
    """The CronJob. ``kubectl create job --from=cronjob/<name>`` runs it at once."""

    def __init__(
        self, name: str, args: ScheduledTaskArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the task.

        :param name: a DNS label of at most 39 characters
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        args, plan = _plan(name, args, f'ScheduledTask "{name}"')
        super().__init__(
            "dds:index:ScheduledTask",
            name,
            {"image": args["image"], "schedule": args["schedule"]},
            opts,
        )
        self.labels = dict(plan.selector)
        resources = make_pod_resources(plan, self)
        metadata = plan.metadata()
        self.cron_job = CronJob(
            name,
            metadata=metadata,
            spec={
                "schedule": args["schedule"],
                "time_zone": "Etc/UTC",
                "concurrency_policy": "Forbid",
                # Without it a CronJob that missed a hundred runs never runs again.
                "starting_deadline_seconds": 3600,
                "successful_jobs_history_limit": 2,
                "failed_jobs_history_limit": 2,
                "job_template": {
                    "metadata": marks(metadata),
                    "spec": {
                        "active_deadline_seconds": args["timeout_seconds"],
                        "backoff_limit": args["retries"],
                        "template": resources.template,
                    },
                },
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*resources.dependencies]),
        )
        self.register_outputs({"labels": self.labels})

    @staticmethod
    def validate(where: str, name: str, args: ScheduledTaskArgs) -> None:
        """Check the arguments for a component that is made of a ScheduledTask.

        :param where: that component, so that messages name it
        """
        _plan(name, args, where)


def _plan(name: str, args: ScheduledTaskArgs, where: str) -> tuple[ScheduledTaskArgs, PodPlan]:
    args = resolved(where, ScheduledTaskArgs, args)
    return args, plan_pod(
        where,
        name,
        args,
        args["hosting"],
        component="scheduled-task",
        reserve=_RESERVE,
        restart_policy="Never",
    )


def schedule(where: str, argument: str, value: str) -> str:
    """Five fields of cron."""
    resolve(Place(where, argument), read(Schedule), value)
    return value
