"""Reports why objects are not ready: warning events, which the provider does not print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from toolchain import api_server

if TYPE_CHECKING:
    from toolchain.pulumi_cli import PulumiCli

MOST_OF_ONE = 3


def reasons(cli: PulumiCli, stack: str, began: float) -> Iterator[str]:
    """A line for each recent warning about an object whose wait has failed in the last update.

    :param began: start of that update in Unix seconds
    """
    import kubernetes

    try:
        unready = list(_unready(cli.export(stack)["deployment"]))
        if not unready:
            return
        core = kubernetes.client.CoreV1Api(api_server.of_the_command(cli.environment))
        events = {
            namespace: core.list_namespaced_event(
                namespace, field_selector="type=Warning", _request_timeout=api_server.ANSWER_SECONDS
            ).items
            for namespace in {namespace for _, namespace, _ in unready}
        }
        for kind, namespace, name in unready:
            for line in warnings(events[namespace], name, began):
                yield f"{kind} {namespace}/{name}: {line}"
    except Exception as error:  # noqa: BLE001 it must not hide the original error
        yield f"the cluster's events cannot be read ({error})"


def _unready(deployment: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for resource in deployment.get("resources") or []:
        metadata = (resource.get("outputs") or {}).get("metadata") or {}
        if resource.get("initErrors") and metadata.get("namespace"):
            yield resource["outputs"]["kind"], metadata["namespace"], metadata["name"]


def warnings(events: Iterable[Any], name: str, began: float) -> list[str]:
    """The last warnings since `began` about `name` and objects whose names start with it."""
    recent = [
        event
        for event in events
        if f"{event.involved_object.name}-".startswith(f"{name}-")
        and _seen(event).timestamp() >= int(began)
    ]
    # One message per reason: each attempt has other numbers in its message.
    found: dict[str, str] = {}
    for event in sorted(recent, key=_seen, reverse=True):
        found.setdefault(event.reason, f"{event.reason}: {event.message}")
    return list(found.values())[:MOST_OF_ONE]


def _seen(event: Any) -> datetime:
    """When it was last seen, which is in one of three fields."""
    seen: datetime = event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    return seen
