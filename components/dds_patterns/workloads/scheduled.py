"""ScheduledTask: a CronJob with all that belongs to it."""

import pulumi
from pulumi_kubernetes.batch.v1 import CronJob

from dds_patterns.arguments import resolved
from dds_patterns.arguments.cron import Schedule
from dds_patterns.arguments.names import LABEL_LIMIT
from dds_patterns.pods.hosting import marks
from dds_patterns.workloads.job import JOB_RESERVE, JobTemplate, plan_job
from dds_patterns.workloads.job_arguments import JobArgs
from dds_patterns.workloads.pod import make_pod_resources

# A CronJob adds a dash and eight digits to the name of each Job.
_RESERVE = JOB_RESERVE + 9
LONGEST_SCHEDULED_TASK = LABEL_LIMIT - _RESERVE
"""Most characters of the name of a ScheduledTask."""


class ScheduledTaskArgs(JobArgs):
    """Arguments of ScheduledTask."""

    schedule: Schedule
    """When it runs: five fields of cron (``17 3 * * *``), in UTC."""


class ScheduledTask(pulumi.ComponentResource):
    """A program that runs to completion on a schedule; never twice at the same time.

    Registers a CronJob, a ServiceAccount and a NetworkPolicy that denies all connections but the
    declared ones. A failed run does not fail the deployment: monitor the Jobs.
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
        :raises InputError: an invalid argument, before anything is registered
        """
        args, plan = _plan(name, args, f'ScheduledTask "{name}"')
        super().__init__(
            "dds:index:ScheduledTask",
            name,
            {"image": args["image"], "schedule": args["schedule"]},
            opts,
        )
        self.labels = dict(plan.pod.selector)
        resources = make_pod_resources(plan.pod, self)
        metadata = plan.pod.metadata()
        self.cron_job = CronJob(
            name,
            metadata=metadata,
            spec={
                "schedule": args["schedule"],
                "time_zone": "Etc/UTC",
                "concurrency_policy": "Forbid",
                # Without it a CronJob that missed more than a hundred runs never runs again.
                "starting_deadline_seconds": 3600,
                "successful_jobs_history_limit": 2,
                "failed_jobs_history_limit": 2,
                "job_template": {
                    "metadata": marks(metadata),
                    "spec": plan.spec(resources.template),
                },
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*resources.dependencies]),
        )
        self.register_outputs({"labels": self.labels})

    @staticmethod
    def validate(where: str, name: str, args: ScheduledTaskArgs) -> None:
        """Check the arguments for a component that is made of a ScheduledTask.

        :param where: that component, for messages
        """
        _plan(name, args, where)


def _plan(name: str, args: ScheduledTaskArgs, where: str) -> tuple[ScheduledTaskArgs, JobTemplate]:
    args = resolved(where, ScheduledTaskArgs, args)
    return args, plan_job(
        where, name, args, component="scheduled-task", reserve=_RESERVE, backoff_limit=1
    )
