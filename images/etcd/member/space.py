"""A cluster that is at its quota: writes are refused until there is room and somebody says so."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from member.gateway import Gateway, GatewayError
from member.say import say

ALARM = "NOSPACE"
# The largest request that etcd takes: with less, some writes would raise the alarm again at once.
_REQUEST_BYTES = 3 * 2**19


def alarms(gateway: Gateway) -> list[dict[str, Any]]:
    """The alarms for lack of space; each names a member."""
    answer = gateway.call("/v3/maintenance/alarm", {"action": "GET"})
    return [alarm for alarm in answer.get("alarms", ()) if alarm.get("alarm") == ALARM]


def room(status: Mapping[str, Any]) -> bool:
    """Whether any one request fits below a member's quota."""
    return int(status["dbSize"]) + _REQUEST_BYTES < int(status["dbSizeQuota"])


def compact(gateway: Gateway, endpoints: Sequence[str], revision: int) -> None:
    """Give up all former versions, and wait until each member has freed their pages.

    A member waits for its own pages only, and takes each revision once: so each is asked for
    another one.
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
    say(f"at the quota: former versions up to revision {revision} are given up")


def disarm(
    gateway: Gateway, endpoints: Sequence[str], status: Callable[[str], Mapping[str, Any]]
) -> None:
    """End the alarms, if every member has room.

    :raises SystemExit: one has none; says what to do
    """
    for endpoint in endpoints:
        state = status(endpoint)
        if not room(state):
            raise SystemExit(
                f"{endpoint}: {state['dbSize']} bytes of {state['dbSizeQuota']} after compaction "
                "and defragmentation: writes stay refused. Delete keys, which is still taken, or "
                "raise quota_mib; then run this Job again "
                "(kubectl create job --from=cronjob/<its CronJob> repair), which ends the alarm"
            )
    for alarm in alarms(gateway):
        gateway.call("/v3/maintenance/alarm", {**alarm, "action": "DEACTIVATE"})
    say("there is room: writes are taken again")
