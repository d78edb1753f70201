"""docker:index/container:Container: create, read, update and delete."""

from __future__ import annotations

import io
import tarfile
import time
from typing import TYPE_CHECKING, Any

import docker.errors

from toolchain.plugins.docker import container_config
from toolchain.plugins.docker.engine import (
    CONNECTION_ERRORS,
    DockerError,
    Operation,
    explain,
    found,
)
from toolchain.plugins.docker.ownership import clear_container, label_pairs, labels_of
from toolchain.plugins.docker.remote_image import ensure_present
from toolchain.plugins.docker.resources import PartlyDoneError, ResourceType
from toolchain.plugins.provider.errors import ProviderError

if TYPE_CHECKING:
    from toolchain.plugins.provider.provider import Properties

_REMOVAL_SECONDS = 60.0
_LOG_LINES = 20
_HEALTH_LINES = 3


def _create(operation: Operation, inputs: Properties) -> tuple[str, Properties]:
    name = inputs["name"]
    client = operation.client
    clear_container(operation, name, labels_of(inputs.get("labels")))
    ensure_present(operation, inputs["image"], inputs.get("platform"))
    made = client.create_container_from_config(
        container_config.container(inputs), name, inputs.get("platform")
    )
    identity: str = made["Id"]
    try:
        _connect(operation, identity, inputs)
        for upload in inputs.get("uploads") or []:
            path, content, mode = container_config.uploaded(upload)
            client.put_archive(identity, "/", _archive(path.lstrip("/"), content, mode))
        if inputs.get("start", True):
            _start(operation, identity, inputs)
    except (ProviderError, docker.errors.DockerException, *CONNECTION_ERRORS) as error:
        reason = explain(error) if isinstance(error, docker.errors.APIError) else str(error)
        raise PartlyDoneError(
            identity, _state_of_failed(operation, identity, inputs), reason
        ) from None
    state = _read(operation, identity, inputs)
    if state is None:
        raise DockerError(f"container {name!r} was removed during its creation")
    return state


def _read(operation: Operation, identity: str, state: Properties) -> tuple[str, Properties] | None:
    details = found(lambda: operation.client.inspect_container(identity))
    if details is None:
        return None
    imported = "image" not in state
    result = container_config.state(details, state)
    if imported:
        result |= _only_when_imported(details)
    if not details["State"]["Running"]:
        result["exitCode"] = details["State"]["ExitCode"]
        # The next update sees a difference and restarts the container.
        if result.get("mustRun", True):
            result["mustRun"] = False
    return details["Id"], result


def _only_when_imported(details: dict[str, Any]) -> Properties:
    networks = details["NetworkSettings"].get("Networks") or {}
    return {
        "labels": label_pairs(details["Config"].get("Labels")),
        "envs": details["Config"].get("Env") or [],
        "ports": container_config.published(details["HostConfig"].get("PortBindings") or {}),
        "networksAdvanced": [{"name": name} for name in sorted(networks) if name != "bridge"],
        "mustRun": True,
        "start": True,
        "removeVolumes": True,
        "wait": False,
        "waitTimeout": 60,
    }


def _update(
    operation: Operation, identity: str, state: Properties, inputs: Properties
) -> Properties:
    client = operation.client
    details = found(lambda: client.inspect_container(identity))
    if details is None:
        raise DockerError(
            f"container {inputs['name']!r} does not exist; run again with --refresh to recreate it"
        )
    differs = [
        name for name in container_config.UPDATABLE_LIMITS if state.get(name) != inputs.get(name)
    ]
    if differs:
        _limit(client, identity, container_config.limits(inputs))
    if inputs.get("start", True) and inputs.get("mustRun", True):
        try:
            _start(operation, identity, inputs)
        except (ProviderError, docker.errors.DockerException, *CONNECTION_ERRORS) as error:
            reason = explain(error) if isinstance(error, docker.errors.APIError) else str(error)
            failed = _state_of_failed(operation, identity, inputs)
            raise PartlyDoneError(identity, failed, reason) from None
    current = _read(operation, identity, inputs)
    if current is None:
        raise DockerError(f"container {inputs['name']!r} was removed during its update")
    return current[1]


def _limit(client: Any, identity: str, limits: Properties) -> None:
    swap = limits["MemorySwap"]
    if limits["Memory"] and not swap:
        # The daemon's default for a new container; that of an old one may be too small.
        swap = 2 * limits["Memory"]
    client.update_container(
        identity,
        restart_policy=limits["RestartPolicy"],
        mem_limit=limits["Memory"],
        mem_reservation=limits["MemoryReservation"],
        memswap_limit=swap,
        cpu_shares=limits["CpuShares"],
        cpuset_cpus=limits["CpusetCpus"],
    )


def _delete(operation: Operation, identity: str, state: Properties) -> None:
    client = operation.client
    grace = int(state.get("destroyGraceSeconds") or 0)
    try:
        if grace:
            operation.status(f"stopping, at most {grace} s")
            client.stop(identity, timeout=grace)
        client.remove_container(identity, v=bool(state.get("removeVolumes", True)), force=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if "is already in progress" not in explain(error):
            raise
    operation.until(
        lambda: found(lambda: client.inspect_container(identity)) is None,
        _REMOVAL_SECONDS,
        lambda: (
            f"container {state.get('name')!r} still exists {_REMOVAL_SECONDS:.0f} s after "
            "its removal was requested"
        ),
    )


def _connect(operation: Operation, identity: str, inputs: Properties) -> None:
    networks = inputs.get("networksAdvanced") or []
    client = operation.client
    if networks and (inputs.get("networkMode") or "bridge") == "bridge":
        try:
            client.disconnect_container_from_network(identity, "bridge")
        except docker.errors.APIError as error:
            if "is not connected" not in explain(error):
                raise
    for network in networks:
        client.connect_container_to_network(
            identity,
            network["name"],
            aliases=network.get("aliases"),
            ipv4_address=network.get("ipv4Address"),
            ipv6_address=network.get("ipv6Address"),
        )


def _archive(path: str, content: bytes, mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(path)
        member.size, member.mode, member.mtime = len(content), mode, int(time.time())
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _start(operation: Operation, identity: str, inputs: Properties) -> None:
    """Start the container unless it runs, and wait until it is healthy if `wait` is set."""
    client = operation.client
    restarts: int = client.inspect_container(identity)["RestartCount"]
    client.start(identity)
    if not inputs.get("wait"):
        return
    name = inputs["name"]
    bound = float(inputs.get("waitTimeout") or 60)
    started = time.monotonic()
    details: dict[str, Any] = {}

    def healthy() -> bool:
        nonlocal details
        details = client.inspect_container(identity)
        state = details["State"]
        health = state.get("Health")
        # With a restart policy, an exited container restarts; it counts as unhealthy.
        again = details["RestartCount"] > restarts
        ended = again or state["Status"] in ("exited", "dead", "restarting")
        if ended:
            raise DockerError(
                f"container {name!r} exited with code {state['ExitCode']} before it was healthy"
                f"{_quoted('its last log lines', _log(operation, identity))}"
            )
        if health is None or health["Status"] == "none":
            raise DockerError(
                f"wait is set but container {name!r} has no health check; add one, or remove wait"
            )
        operation.status(f"{health['Status']} for {time.monotonic() - started:.0f} s")
        return bool(health["Status"] == "healthy")

    def late() -> str:
        probes = (details["State"].get("Health") or {}).get("Log") or []
        output = [
            f"exit {probe['ExitCode']}: {probe['Output'].strip()}"
            for probe in probes[-_HEALTH_LINES:]
        ]
        return (
            f"container {name!r} was not healthy within {bound:.0f} s (waitTimeout)"
            f"{_quoted('output of its health check', output)}"
            f"{_quoted('its last log lines', _log(operation, identity))}"
        )

    operation.until(healthy, bound, late, every=0.5)


def _log(operation: Operation, identity: str) -> list[str]:
    try:
        raw: bytes = operation.client.logs(identity, tail=_LOG_LINES)
    except (docker.errors.DockerException, *CONNECTION_ERRORS):
        return []
    return raw.decode(errors="replace").splitlines()


def _quoted(title: str, lines: list[str]) -> str:
    if not lines:
        return ""
    return f"; {title}:\n" + "\n".join(f"    {line}" for line in lines)


def _state_of_failed(operation: Operation, identity: str, inputs: Properties) -> Properties:
    try:
        current = _read(operation, identity, inputs)
    except (ProviderError, docker.errors.DockerException, *CONNECTION_ERRORS):
        current = None
    if current is not None:
        return current[1]
    return {name: value for name, value in inputs.items() if name != "__defaults"}


CONTAINER = ResourceType(
    type_name="docker:index/container:Container",
    fields=container_config.FIELDS,
    create=_create,
    read=_read,
    update=_update,
    delete=_delete,
    delete_first=True,
    complete=container_config.complete,
    meta='{"schema_version":"2"}',
)
