"""How long the engine waits for a rollout."""

from collections.abc import Mapping
from typing import Any

import pulumi

# What the engine waits by itself.
_LEAST_SECONDS = 600
_UNKNOWN_SECONDS = 3600
# Of each pod: a node is found, a volume attached, an image there, companions are up.
_OTHER_SECONDS = 30


def rollout_timeouts(
    replicas: pulumi.Input[int],
    *,
    end_seconds: int,
    min_ready_seconds: int,
    probes: Mapping[str, Any],
) -> pulumi.CustomTimeouts:
    """As long as it may take to replace one pod after the other, and at least 10 minutes.

    A pod that does not get ready fails the deployment only then, so that it is no longer than that.

    :param replicas: if it is known only later, an hour in place of 10 minutes
    :param end_seconds: from the order to stop to SIGKILL
    :param min_ready_seconds: that a new pod must be ready
    :param probes: of the application's container; it may take as long as the startup probe is
        patient
    """
    startup = probes.get("startup_probe")
    start = startup["period_seconds"] * startup["failure_threshold"] if startup else 0
    each = end_seconds + start + min_ready_seconds + _OTHER_SECONDS
    if isinstance(replicas, int):
        seconds = max(_LEAST_SECONDS, replicas * each)
    else:
        seconds = max(_UNKNOWN_SECONDS, each)
    return pulumi.CustomTimeouts(create=f"{seconds}s", update=f"{seconds}s")
