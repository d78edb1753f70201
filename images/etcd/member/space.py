"""A cluster at its quota: etcd refuses writes until there is space and the alarm is cleared."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from member.gateway import Gateway, GatewayError
from member.say import say

ALARM = "NOSPACE"
# The largest request that etcd accepts: with less space, one write could raise the alarm again.
_REQUEST_BYTES = 3 * 2**19


def alarms(gateway: Gateway) -> list[dict[str, Any]]:
    """The alarms NOSPACE, one for each affected member."""
    answer = gateway.call("/v3/maintenance/alarm", {"action": "GET"})
    return [alarm for alarm in answer.get("alarms", ()) if alarm.get("alarm") == ALARM]


def room(status: Mapping[str, Any]) -> bool:
    """Whether the largest request fits below a member's quota."""
    return int(status["dbSize"]) + _REQUEST_BYTES < int(status["dbSizeQuota"])


def compact(gateway: Gateway, endpoints: Sequence[str], revision: int) -> None:
    """Compact the history, and wait until each member has freed its pages.

    A request waits for the pages of its own member only, and each revision can be compacted once:
    so each member gets its own revision.
    """
    for wanted, endpoint in enumerate(endpoints, revision - len(endpoints) + 1):
        if wanted < 1:
            continue
        try:
            body = {"revision": str(wanted), "physical": True}
            gateway.call("/v3/kv/compaction", body, endpoint)
        except GatewayError as error:
            if "has been compacted" not in str(error):
                raise
    say(f"at the quota: compacted up to revision {revision}")


def disarm(
    gateway: Gateway, endpoints: Sequence[str], status: Callable[[str], Mapping[str, Any]]
) -> None:
    """Clear the alarms, if every member has space.

    :raises SystemExit: a member has no space; the message says what to do
    """
    for endpoint in endpoints:
        state = status(endpoint)
        if not room(state):
            raise SystemExit(
                f"{endpoint}: {state['dbSize']} bytes of {state['dbSizeQuota']} after compaction "
                "and defragmentation: writes stay refused. Delete keys, which is still possible, or "
                "raise quota_mib; then run this Job again "
                "(kubectl create job --from=cronjob/<its CronJob> repair), which clears the alarm"
            )
    for alarm in alarms(gateway):
        gateway.call("/v3/maintenance/alarm", {**alarm, "action": "DEACTIVATE"})
    say("there is space: the alarm is cleared, writes are accepted")
