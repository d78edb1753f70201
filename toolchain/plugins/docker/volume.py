"""The type docker:index/volume:Volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import docker.errors

from toolchain.plugins.docker.engine import DockerError, Operation, explain, found
from toolchain.plugins.docker.ownership import clear_volume, label_pairs, labels_of
from toolchain.plugins.docker.resources import ResourceType
from toolchain.plugins.docker.schema import Field, labels

if TYPE_CHECKING:
    from toolchain.plugins.provider.provider import Properties

_REMOVAL_SECONDS = 30.0

FIELDS = {
    "name": Field("string", computed=True),
    "labels": labels(),
    "driver": Field("string", computed=True),
    "driverOpts": Field("map"),
}


def _create(operation: Operation, inputs: Properties) -> tuple[str, Properties]:
    wanted = labels_of(inputs.get("labels"))
    clear_volume(operation, inputs["name"], wanted)
    operation.client.create_volume(
        inputs["name"],
        driver=inputs.get("driver"),
        driver_opts=inputs.get("driverOpts"),
        labels=wanted,
    )
    state = _read(operation, inputs["name"], inputs)
    if state is None:
        raise DockerError(f"volume {inputs['name']!r} was removed during its creation")
    return state


def _read(operation: Operation, identity: str, _state: Properties) -> tuple[str, Properties] | None:
    client = operation.client
    details = found(lambda: client.inspect_volume(identity))
    if details is None:
        return None
    return details["Name"], {
        "name": details["Name"],
        "labels": label_pairs(details.get("Labels")),
        "driver": details["Driver"],
        "driverOpts": details.get("Options") or {},
        "mountpoint": details["Mountpoint"],
    }


def _update(
    operation: Operation, identity: str, state: Properties, _inputs: Properties
) -> Properties:
    current = _read(operation, identity, state)
    if current is None:
        raise DockerError(f"volume {identity!r} does not exist; run again with --refresh")
    return current[1]


def _delete(operation: Operation, identity: str, _state: Properties) -> None:
    client = operation.client
    refusal = ""

    def removed() -> bool:
        nonlocal refusal
        try:
            client.remove_volume(identity)
        except docker.errors.NotFound:
            return True
        except docker.errors.APIError as error:
            refusal = explain(error)
            if "in use" not in refusal:
                raise
            return False
        return found(lambda: client.inspect_volume(identity)) is None

    operation.until(removed, _REMOVAL_SECONDS, lambda: refusal, every=0.5)


VOLUME = ResourceType(
    type_name="docker:index/volume:Volume",
    fields=FIELDS,
    create=_create,
    read=_read,
    update=_update,
    delete=_delete,
    meta='{"schema_version":"1"}',
)
