"""The engine's timeout for a rollout."""

from collections.abc import Mapping
from typing import Any

import pulumi

# The engine's default timeout.
_LEAST_SECONDS = 600
_UNKNOWN_SECONDS = 3600
# For each pod: scheduling, attaching a volume, pulling an image, starting companions.
_OTHER_SECONDS = 30


def rollout_timeouts(
    replicas: pulumi.Input[int],
    *,
    end_seconds: int,
    min_ready_seconds: int,
    probes: Mapping[str, Any],
) -> pulumi.CustomTimeouts:
    """The time that replacing one pod after the other may take, and at least 10 minutes.

    It is no longer, since a pod that does not get ready fails the deployment only at the timeout.

    :param replicas: if it is an Output, the minimum is an hour
    :param end_seconds: from the deletion of a pod to SIGKILL
    :param min_ready_seconds: that a new pod must be ready
    :param probes: of the application's container; its start may take until the startup probe fails
    """
    startup = probes.get("startup_probe")
    start = startup["period_seconds"] * startup["failure_threshold"] if startup else 0
    each = end_seconds + start + min_ready_seconds + _OTHER_SECONDS
    if isinstance(replicas, int):
        seconds = max(_LEAST_SECONDS, replicas * each)
    else:
        seconds = max(_UNKNOWN_SECONDS, each)
    return pulumi.CustomTimeouts(create=f"{seconds}s", update=f"{seconds}s")
