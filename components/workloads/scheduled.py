"""ScheduledTask: a CronJob with all that belongs to it."""

import re
from typing import NotRequired

import pulumi
from pulumi_kubernetes.batch.v1 import CronJob

from components.arguments.errors import InputError
from components.values import checks
from components.values.names import AUTONAME
from components.workloads.arguments import PodArgs
from components.workloads.pod import PodPlan, make_pod_resources, plan_pod

# A CronJob adds a dash and eight digits, the Job's pod a dash and five characters.
_RESERVE = AUTONAME + 9 + 6
_FIELD = re.compile(r"[0-9A-Za-z*/,?-]+")
_FIELDS = 5


class ScheduledTaskArgs(PodArgs):
    """Arguments of ScheduledTask."""

    schedule: str
    """When it runs, in five fields as cron reads them (``17 3 * * *``), in UTC."""
    timeout_seconds: NotRequired[int]
    """Seconds for all tries of one run together, at least 1. Defaults to 600."""
    retries: NotRequired[int]
    """Tries after the first one has failed, at least 0. Defaults to 1."""


class ScheduledTask(pulumi.ComponentResource):
    """A program that runs to its end, again and again; never twice at the same time.

    Registers a CronJob, a ServiceAccount and a NetworkPolicy that lets nothing through but the
    given edges. A run that fails does not fail the deployment: watch the Jobs.
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
        plan = _plan(name, args, f'ScheduledTask "{name}"')
        super().__init__(
            "dds:index:ScheduledTask",
            name,
            {"image": args["image"], "schedule": args["schedule"]},
            opts,
        )
        self.labels = dict(plan.selector)
        resources = make_pod_resources(plan, self)
        self.cron_job = CronJob(
            name,
            metadata=plan.metadata(),
            spec={
                "schedule": args["schedule"],
                "time_zone": "Etc/UTC",
                "concurrency_policy": "Forbid",
                # Without it a CronJob that missed a hundred runs never runs again.
                "starting_deadline_seconds": 3600,
                "successful_jobs_history_limit": 2,
                "failed_jobs_history_limit": 2,
                "job_template": {
                    "metadata": {"labels": dict(plan.selector)},
                    "spec": {
                        "active_deadline_seconds": args.get("timeout_seconds", 600),
                        "backoff_limit": args.get("retries", 1),
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


def schedule(where: str, argument: str, value: str) -> str:
    """Five fields of cron."""
    fields = str(value).split()
    if len(fields) != _FIELDS or not all(_FIELD.fullmatch(field) for field in fields):
        raise InputError(
            where, argument, value, "must have five fields as cron reads them, such as 17 3 * * *"
        )
    return value


def _plan(name: str, args: ScheduledTaskArgs, where: str) -> PodPlan:
    checks.known_arguments(where, ScheduledTaskArgs, args)
    schedule(where, "schedule", args["schedule"])
    checks.integer(where, "timeout_seconds", args.get("timeout_seconds", 600), minimum=1)
    checks.integer(where, "retries", args.get("retries", 1), minimum=0)
    return plan_pod(
        where, name, args, component="scheduled-task", reserve=_RESERVE, restart_policy="Never"
    )
