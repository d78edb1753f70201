"""docker:index/image:Image: built from a folder and pushed to a registry."""

from __future__ import annotations

import http.client
import os
import platform
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker import utils

from toolchain.plugins.docker import context
from toolchain.plugins.docker.engine import DockerError, Operation, found
from toolchain.plugins.docker.resources import ResourceType
from toolchain.plugins.docker.schema import Change, Failure, Field, one_of
from toolchain.plugins.provider.values import UNKNOWN

if TYPE_CHECKING:
    from toolchain.plugins.provider.provider import Properties

FIELDS = {
    "imageName": Field("string", replace=False, required=True),
    "skipPush": Field("boolean", replace=False),
    "buildOnPreview": Field(
        "boolean",
        replace=False,
        reject=lambda value: "must be false: a preview makes no changes" if value else None,
    ),
    "registry": Field(
        "object",
        replace=False,
        fields={
            "server": Field("string"),
            "username": Field("string"),
            "password": Field("string"),
        },
    ),
    "build": Field(
        "object",
        replace=False,
        fields={
            "context": Field("string"),
            "dockerfile": Field("string"),
            "args": Field("map"),
            "target": Field("string"),
            "platform": Field("string"),
            "network": Field("string"),
            "addHosts": Field("strings"),
            "cacheFrom": Field("object", fields={"images": Field("strings")}),
            # Every Docker Engine since 20.10 has BuilderV1, which needs no session.
            "builderVersion": Field("string", reject=one_of("BuilderV1")),
            "contextDigest": Field("string"),
        },
    ),
}

_TAIL = 30
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
        "oci.image.manifest.v1",
        "oci.image.index.v1",
    )
)


def host_platform() -> str:
    """The default platform of builds, such as ``linux/amd64``."""
    machine = platform.machine()
    return f"linux/{_ARCHITECTURES.get(machine, machine)}"


def _complete(inputs: Properties) -> list[Failure]:
    """Fill in the build's defaults and the digest of its context."""
    inputs.pop("__defaults", None)
    inputs.setdefault("skipPush", False)
    inputs.setdefault("buildOnPreview", False)
    if isinstance(inputs.get("registry"), dict):
        inputs["registry"].pop("__defaults", None)
    build = inputs.setdefault("build", {})
    if build is UNKNOWN:
        return []
    build.pop("__defaults", None)
    if isinstance(build.get("cacheFrom"), dict):
        build["cacheFrom"].pop("__defaults", None)
    folder: Any = build.setdefault("context", ".")
    if folder is not UNKNOWN:
        build.setdefault("dockerfile", str(Path(folder) / "Dockerfile"))
    build.setdefault("platform", host_platform())
    dockerfile: Any = build.get("dockerfile")
    if folder is UNKNOWN or dockerfile is UNKNOWN:
        return []
    if not Path(folder).is_dir():
        return [Failure("build.context", f"is {folder!r}; no such folder in {Path.cwd()}")]
    if not Path(dockerfile).is_file():
        other = str(Path(folder) / dockerfile)
        hint = f"; did you mean {other!r}?" if Path(other).is_file() else ""
        return [
            Failure("build.dockerfile", f"is {dockerfile!r}; no such file in {Path.cwd()}{hint}")
        ]
    try:
        build["contextDigest"] = context.digest(Path(folder), Path(dockerfile))
    except OSError as error:
        return [Failure("build.context", f"{error.filename}: {error.strerror}")]
    name = inputs.get("imageName")
    pushed = not inputs["skipPush"]
    if pushed and name is not UNKNOWN and isinstance(name, str) and "/" not in name:
        return [Failure("imageName", f"is {name!r}; to be pushed, it must include its registry")]
    return []


def _changes(state: Properties, inputs: Properties) -> list[Change]:
    """The inputs that differ from those of the last build, except credentials."""
    old = dict(state.get("__inputs") or {})
    result = []
    for name in sorted({*old, *inputs}):
        before, after = old.get(name), inputs.get(name)
        if name == "registry":
            before, after = (one.get("server") if isinstance(one, dict) else one
                             for one in (before, after))  # fmt: skip
        if before != after:
            kind = "add" if before is None else "delete" if after is None else "update"
            result.append(Change(name, False, kind))
    return result


def _create(operation: Operation, inputs: Properties) -> tuple[str, Properties]:
    name = inputs["imageName"]
    build, registry = inputs["build"], inputs.get("registry") or {}
    _build(operation, name, build)
    if inputs.get("skipPush"):
        reference = operation.client.inspect_image(name)["Id"]
    else:
        reference = _push(operation, name, registry)
    state = {
        "imageName": name,
        "baseImageName": name,
        "context": build["context"],
        "dockerfile": os.path.relpath(build["dockerfile"], build["context"]),
        "platform": build["platform"],
        "registryServer": registry.get("server") or "",
        "repoDigest": reference,
        "__inputs": inputs,
    }
    return name, state


def _build(operation: Operation, name: str, build: Properties) -> None:
    wanted = build.get("platform")
    output: list[str] = []
    made = ""
    with context.archive(Path(build["context"]), Path(build["dockerfile"])) as (tar, dockerfile):
        messages = operation.client.build(
            fileobj=tar,
            custom_context=True,
            dockerfile=dockerfile,
            tag=name,
            buildargs=build.get("args") or {},
            target=build.get("target") or "",
            network_mode=build.get("network"),
            extra_hosts=dict(entry.split(":", 1) for entry in build.get("addHosts") or []) or None,
            cache_from=(build.get("cacheFrom") or {}).get("images"),
            # Only another platform is passed: otherwise the daemon would pull the base image again
            # if the local one has no platform.
            platform=None if wanted == host_platform() else wanted,
            rm=True,
            forcerm=True,
            decode=True,
        )
        for message in messages:
            operation.pause(0)
            made = (message.get("aux") or {}).get("ID") or made
            if message.get("stream", "").strip():
                output.append(message["stream"].rstrip())
                operation.status(output[-1])
            elif message.get("status"):
                operation.status(_progress(message))
            if "error" in message:
                last = "\n".join(f"    {line}" for line in "\n".join(output).splitlines()[-_TAIL:])
                raise DockerError(f"image {name} cannot be built: {message['error']}\n{last}")
    # The name may belong to an older build, if the output ended early.
    if not made or operation.client.inspect_image(name)["Id"] != made:
        raise DockerError(f"image {name}: the daemon's output ended before the build was complete")


def _progress(message: dict[str, Any]) -> str:
    parts = (message.get("id"), message["status"], message.get("progress"))
    return " ".join(part for part in parts if part)


def _push(operation: Operation, name: str, registry: Properties) -> str:
    repository, tag = utils.parse_repository_tag(name)
    operation.status(f"pushing {name}")
    login = None
    if registry.get("username"):
        login = {"username": registry["username"], "password": registry.get("password") or ""}
    digest = None
    for message in operation.client.push(
        repository, tag or "latest", stream=True, decode=True, auth_config=login
    ):
        operation.pause(0)
        if "error" in message:
            raise DockerError(f"image {name} cannot be pushed: {message['error']}")
        digest = (message.get("aux") or {}).get("Digest") or digest
        if message.get("status"):
            operation.status(_progress(message))
    if digest is None:
        # The daemon's digests may be of an earlier push, so the registry is queried.
        pushed = operation.client.inspect_distribution(name, login)["Descriptor"]["digest"]
        known = operation.client.inspect_image(name).get("RepoDigests") or []
        if f"{repository}@{pushed}" not in known:
            raise DockerError(
                f"image {name}: the registry has a different one after the push: {pushed}"
            )
        digest = pushed
    return f"{repository}@{digest}"


def _read(operation: Operation, identity: str, state: Properties) -> tuple[str, Properties] | None:
    """The recorded state; None if a registry on this machine does not have the image any more."""
    inputs = state.get("__inputs")
    if not inputs:
        raise DockerError("an image cannot be imported: its build inputs are not recorded")
    if inputs.get("skipPush"):
        kept = found(lambda: operation.client.inspect_image(state["repoDigest"])) is not None
    else:
        kept = _is_in_registry(state["repoDigest"])
    return (identity, state) if kept else None


def _is_in_registry(reference: str) -> bool:
    parsed = re.fullmatch(
        r"((?:localhost|127\.0\.0\.1):\d+)/([^@]+)@(sha256:[0-9a-f]{64})", reference
    )
    if parsed is None:
        return True
    request = urllib.request.Request(
        f"http://{parsed[1]}/v2/{parsed[2]}/manifests/{parsed[3]}",
        method="HEAD",
        headers={"Accept": _MANIFESTS},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10):
            return True
    except urllib.error.HTTPError as error:
        return error.code != http.HTTPStatus.NOT_FOUND
    except (OSError, http.client.HTTPException):
        # Unknown, because the registry does not respond.
        return True


def _update(
    operation: Operation, _identity: str, _state: Properties, inputs: Properties
) -> Properties:
    return _create(operation, inputs)[1]


def _delete(_operation: Operation, _identity: str, _state: Properties) -> None:
    """Do nothing: as with the official plugin, tags stay."""


IMAGE = ResourceType(
    type_name="docker:index/image:Image",
    fields=FIELDS,
    create=_create,
    read=_read,
    update=_update,
    delete=_delete,
    auto_named=False,
    complete=_complete,
    changes=_changes,
    secret_outputs=("__inputs",),
)
