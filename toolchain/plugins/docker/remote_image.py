"""docker:index/remoteImage:RemoteImage: a local image, which is pulled if it is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import docker.errors
from docker import utils

from toolchain.plugins.docker.engine import DockerError, Operation, explain, found
from toolchain.plugins.docker.resources import ResourceType
from toolchain.plugins.docker.schema import Field

if TYPE_CHECKING:
    from toolchain.plugins.provider.provider import Properties

FIELDS = {
    "name": Field("string", required=True),
    "keepLocally": Field("boolean", replace=False),
    "forceRemove": Field("boolean", replace=False),
    "pullTriggers": Field("strings_set"),
    "triggers": Field("map"),
    "platform": Field("string"),
}

_ID_LENGTH = len("sha256:") + 64


def ensure_present(operation: Operation, name: str, platform: str | None) -> dict[str, Any]:
    """The image's details; it is pulled if the daemon does not have it."""
    client = operation.client
    details = found(lambda: client.inspect_image(name))
    if details is not None:
        return details
    if name.startswith("sha256:"):
        raise DockerError(f"the daemon has no image {name}")
    repository, tag = utils.parse_repository_tag(name)
    operation.status(f"pulling {name}")
    try:
        for message in client.pull(
            repository, tag or "latest", stream=True, decode=True, platform=platform or None
        ):
            if "error" in message:
                raise DockerError(f"image {name} cannot be pulled: {message['error']}")
            if message.get("id") and message.get("progress"):
                operation.status(f"{message['id']}: {message['status']} {message['progress']}")
            operation.pause(0)
    except docker.errors.APIError as error:
        raise DockerError(
            f"image {name} is not on this machine and cannot be pulled: {explain(error)}"
        ) from None
    pulled: dict[str, Any] = client.inspect_image(name)
    return pulled


def _state(details: dict[str, Any], inputs: Properties) -> tuple[str, Properties]:
    name = inputs["name"]
    state = {key: value for key, value in inputs.items() if key != "__defaults"}
    repository, _ = utils.parse_repository_tag(name.partition("@")[0])
    digests = details.get("RepoDigests") or []
    matching = [digest for digest in digests if digest.startswith(f"{repository}@")]
    state["imageId"] = details["Id"]
    state["repoDigest"] = (matching or digests or [""])[0]
    return details["Id"] + name, state


def _create(operation: Operation, inputs: Properties) -> tuple[str, Properties]:
    return _state(ensure_present(operation, inputs["name"], inputs.get("platform")), inputs)


def _read(operation: Operation, identity: str, state: Properties) -> tuple[str, Properties] | None:
    if "name" not in state:
        state = {"name": identity[_ID_LENGTH:] if identity.startswith("sha256:") else identity}
    details = found(lambda: operation.client.inspect_image(state["name"]))
    return None if details is None else _state(details, state)


def _update(
    operation: Operation, _identity: str, _state: Properties, inputs: Properties
) -> Properties:
    return _create(operation, inputs)[1]


def _delete(operation: Operation, _identity: str, state: Properties) -> None:
    if state.get("keepLocally"):
        return
    found(
        lambda: operation.client.remove_image(state["name"], force=bool(state.get("forceRemove")))
    )


REMOTE_IMAGE = ResourceType(
    type_name="docker:index/remoteImage:RemoteImage",
    fields=FIELDS,
    create=_create,
    read=_read,
    update=_update,
    delete=_delete,
    auto_named=False,
)
