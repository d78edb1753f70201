"""The owner of an existing object with the same name: this project, from a killed run, or not.

A run that is killed between the daemon's response and the engine's record leaves an object that is
in no state. It has the label of its instance, so the next run may remove and recreate it. Any other
object with that name is not changed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from toolchain.plugins.docker.engine import DockerError, Operation, found

INSTANCE_LABEL = "dds.instance"


def labels_of(pairs: list[dict[str, str]] | None) -> dict[str, str]:
    """The labels in the daemon's format."""
    return {pair["label"]: pair["value"] for pair in pairs or []}


def label_pairs(labels: Mapping[str, str] | None) -> list[dict[str, str]]:
    """The labels in the format of the state."""
    return [{"label": key, "value": value} for key, value in sorted((labels or {}).items())]


def is_leftover(
    kind: str, name: str, existing: Mapping[str, str] | None, wanted: Mapping[str, str]
) -> bool:
    """True for an object of this instance; DockerError for any other."""
    ours = wanted.get(INSTANCE_LABEL)
    theirs = (existing or {}).get(INSTANCE_LABEL)
    if ours is not None and ours == theirs:
        return True
    owner = f"it belongs to {INSTANCE_LABEL}={theirs}" if theirs else "it is not this project's"
    raise DockerError(
        f"{kind} {name!r} already exists and {owner}; remove it (docker {kind} rm {name}) or "
        "choose another name"
    )


def clear_container(operation: Operation, name: str, wanted: Mapping[str, str]) -> None:
    """Remove a container with this name that a killed run has left behind."""
    client = operation.client
    existing = found(lambda: client.inspect_container(name))
    if existing is None:
        return
    is_leftover("container", name, existing["Config"].get("Labels"), wanted)
    operation.status(f"removing container {name} that an interrupted run left behind")
    client.remove_container(existing["Id"], v=True, force=True)


def clear_network(operation: Operation, name: str, wanted: Mapping[str, str]) -> None:
    """Remove a network with this name that a killed run has left behind, with its containers."""
    client = operation.client
    for summary in client.networks(names=[name]):
        if summary["Name"] != name:  # the daemon matches substrings
            continue
        is_leftover("network", name, summary.get("Labels"), wanted)
        operation.status(f"removing network {name} that an interrupted run left behind")
        details = found(functools.partial(client.inspect_network, summary["Id"]))
        for container in (details or {}).get("Containers") or {}:
            _remove_if_ours(operation, container, "network", name, wanted)
        found(functools.partial(client.remove_network, summary["Id"]))


def clear_volume(operation: Operation, name: str, wanted: Mapping[str, str]) -> None:
    """Remove a volume with this name that a killed run has left behind, with its containers."""
    client = operation.client
    existing = found(lambda: client.inspect_volume(name))
    if existing is None:
        return
    is_leftover("volume", name, existing.get("Labels"), wanted)
    operation.status(f"removing volume {name} that an interrupted run left behind")
    for container in client.containers(all=True, filters={"volume": name}):
        _remove_if_ours(operation, container["Id"], "volume", name, wanted)
    client.remove_volume(name)


def _remove_if_ours(
    operation: Operation, container: str, kind: str, name: str, wanted: Mapping[str, str]
) -> None:
    client = operation.client
    details: dict[str, Any] | None = found(lambda: client.inspect_container(container))
    if details is None:
        return
    labels = details["Config"].get("Labels") or {}
    if labels.get(INSTANCE_LABEL) != wanted.get(INSTANCE_LABEL):
        raise DockerError(
            f"{kind} {name!r} is in use by container {details['Name'].lstrip('/')!r}, which is "
            "not this project's; remove that container first"
        )
    client.remove_container(container, v=True, force=True)
