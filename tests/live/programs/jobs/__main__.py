"""Tasks that the update waits for, and templates of which the test makes Jobs."""

from typing import Any

import pulumi

from dds_patterns import Task, TaskTemplate
from tests.live.programs.common import in_namespace

config = pulumi.Config()
options = in_namespace(config.require("namespace"))


def running(script: str, **args: Any) -> Any:
    """Arguments of what runs a script."""
    return {
        "image": config.require_object("images")["toolbox"],
        "command": ["sh", "-eu", "-c", script],
        "termination_grace_period_seconds": 1,
        **args,
    }


Task(
    "each",
    running('echo "index $JOB_COMPLETION_INDEX"', completions=5, parallelism=3, indexed=True),
    options,
)
Task(
    "enough",
    running(
        'test "$JOB_COMPLETION_INDEX" != 1 || exec sleep infinity',
        completions=3,
        parallelism=3,
        indexed=True,
        success_policy=[{"succeeded_indexes": config.require("enough")}],
    ),
    options,
)
templates = {
    "apart": running(
        'test "$JOB_COMPLETION_INDEX" != 1',
        completions=4,
        parallelism=2,
        indexed=True,
        backoff_limit_per_index=1,
    ),
    "stopped": running(
        "exit 42", backoff_limit=5, pod_failure_policy=[{"action": "fail_job", "exit_codes": [42]}]
    ),
    "evicted": running(
        "exec sleep infinity",
        backoff_limit=0,
        # Ended by the order to stop, it has an exit code that would fail the Job.
        pod_failure_policy=[{"action": "fail_job", "exit_codes_not_in": [1]}],
    ),
    "gone": running("true", ttl_seconds_after_finished=5),
}
for name, args in templates.items():
    pulumi.export(name, TaskTemplate(name, args, options).manifest)
