"""Cleans up after a killed run, before the next command.

A killed run may leave the CLI itself, still running; its lock on the stack; and pending operations
in the state. An object of a pending creation is deleted, so that the next update creates it again
with the same name. A creation adopts an existing object, so an object that is older than the killed
run is not deleted.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolchain import created, progress
from toolchain.errors import ToolchainError
from toolchain.process import Process, started_before
from toolchain.pulumi_cli import PROJECT, PulumiCli

if TYPE_CHECKING:
    from toolchain.paths import Checkout

ORPHAN_GRACE = 60.0


def recover(cli: PulumiCli, stacks: list[str]) -> None:
    """Clean up these stacks after a killed run."""
    end_orphan(cli.checkout)
    if not cli.uses_own_backend:
        return
    for stack in stacks:
        began = remove_stale_locks(cli.checkout, stack)
        if _pending(checkpoint(cli.checkout, stack)):
            settle(cli, stack, began)


def end_orphan(checkout: Checkout) -> None:
    """Stop the CLI of a run whose driver was killed.

    Only called while this checkout's command lock is recorded, so no other driver waits for it.
    """
    try:
        record = json.loads(checkout.run_record.read_text())
        process = Process(int(record["pid"]), int(record["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return
    if process.alive:
        progress.say("recovery", f"stopping pulumi of a killed run (process {process.pid})")
        process.stop(ORPHAN_GRACE)
    checkout.run_record.unlink(missing_ok=True)


def remove_stale_locks(checkout: Checkout, stack: str) -> float | None:
    """Remove the locks of dead processes on a stack; raise ToolchainError for one that runs.

    Returns the time of the first lock, which is the start of the killed run; None without a lock.
    """
    began: list[float] = []
    folder = checkout.state / ".pulumi" / "locks" / "organization" / PROJECT / stack
    for lock in sorted(folder.glob("*.json")):
        holder = _holder(lock)
        if holder is None:
            continue
        pid, host, taken = holder
        if host != socket.gethostname():
            # Another machine's process; the CLI reports what to do.
            continue
        if started_before(pid, taken):
            raise ToolchainError(
                f"stack {stack}: process {pid} is working on it (since "
                f"{datetime.fromtimestamp(taken).astimezone():%H:%M:%S}); wait for it or stop it"
            )
        progress.say(
            "recovery", f"stack {stack}: removing the lock of process {pid}, which has exited"
        )
        lock.unlink(missing_ok=True)
        began.append(taken)
    return min(began, default=None)


def _holder(lock: Path) -> tuple[int, str, float] | None:
    try:
        document = json.loads(lock.read_text())
        taken = datetime.fromisoformat(_microseconds(str(document["timestamp"])))
        return int(document["pid"]), str(document["hostname"]), taken.timestamp()
    except FileNotFoundError:
        return None
    except (ValueError, KeyError):
        # A killed run may leave an incomplete file, which is not a lock.
        lock.unlink(missing_ok=True)
        return None


def _microseconds(timestamp: str) -> str:
    """The timestamp for `fromisoformat`, which refuses Go's nanoseconds."""
    head, dot, tail = timestamp.partition(".")
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    return f"{head}.{digits[:6]:0<6}{tail[len(digits) :]}" if dot else timestamp


def checkpoint(checkout: Checkout, stack: str) -> dict[str, Any]:
    """The state of a stack in the file backend; empty if there is none."""
    file = checkout.state / ".pulumi" / "stacks" / PROJECT / f"{stack}.json"
    try:
        latest = json.loads(file.read_text())["checkpoint"].get("latest") or {}
    except (OSError, ValueError, KeyError):
        return {}
    return dict(latest)


def _pending(deployment: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(deployment.get("pending_operations") or [])


def settle(cli: PulumiCli, stack: str, began: float | None) -> None:
    """Delete objects of a stack's pending creations, and clear the pending operations.

    :param began: start of the killed run in Unix seconds; None: unknown
    """
    state = cli.export(stack)
    deployment = state["deployment"]
    for resource in unfinished_creations(deployment):
        progress.say("recovery", f"stack {stack}: {resource['urn']} was being created")
        created.delete(cli.checkout, cli.environment, resource, began)
    count = len(_pending(deployment))
    deployment["pending_operations"] = []
    cli.import_(stack, state)
    progress.say("recovery", f"stack {stack}: cleared {count} operation(s) of a killed run")


def unfinished_creations(deployment: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The resources of pending creations that are not in the state."""
    recorded = {
        (resource.get("type"), created.identity(resource))
        for resource in deployment.get("resources") or []
        if resource.get("id")
    }
    for operation in _pending(deployment):
        resource = operation["resource"]
        if operation.get("type") != "creating":
            continue
        if (resource.get("type"), created.identity(resource)) not in recorded:
            yield resource
