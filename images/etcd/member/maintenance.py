"""Defragmentation, one member at a time, and snapshots."""

import base64
import datetime
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from member import settings as at
from member import snapshots, space
from member.gateway import Gateway, GatewayError, UnreachableError
from member.prepare import serving
from member.say import say

PLAN = Path("/etc/etcd/maintenance/maintenance.json")
SNAPSHOTS = Path("/var/lib/etcd-snapshots")
# The whole file is rewritten; the member does not respond meanwhile.
_DEFRAGMENT_SECONDS = 300
_HEALTHY_SECONDS = 60
_FAILED = (UnreachableError, GatewayError)


def defragment() -> None:
    """Free unused pages of the members' files, if it is worth it and all members are healthy.

    At the quota, the history is compacted first, and the alarm is cleared once there is space.
    """
    plan = json.loads(PLAN.read_text())
    endpoints = plan["endpoints"]
    gateway = _root(endpoints, _DEFRAGMENT_SECONDS)
    states = {endpoint: _status(gateway, endpoint) for endpoint in endpoints}
    full = bool(space.alarms(gateway))
    if full:
        revision = max(int(state["header"]["revision"]) for state in states.values())
        space.compact(gateway, endpoints, revision)
        states = {endpoint: _status(gateway, endpoint) for endpoint in endpoints}
    leader = next(iter(states.values()))["leader"]
    # The leader is last: by then no other member is busy, and one of them can take over.
    order = sorted(
        endpoints, key=lambda endpoint: states[endpoint]["header"]["member_id"] == leader
    )
    for endpoint in order:
        state = states[endpoint]
        size, used = int(state["dbSize"]), int(state.get("dbSizeInUse", 0))
        little = size < plan["least_bytes"] or (size - used) / size < plan["free_fraction"]
        if space.room(state) if full else little:
            say(f"{endpoint}: {used} of {size} bytes in use: nothing to do")
            continue
        if state["header"]["member_id"] == leader and len(order) > 1:
            successor = states[order[0]]["header"]["member_id"]
            gateway.call("/v3/maintenance/transfer-leadership", {"targetID": successor}, endpoint)
        gateway.call("/v3/maintenance/defragment", {}, endpoint)
        _wait(gateway, endpoint)
        say(f"{endpoint}: {size} bytes before, {_status(gateway, endpoint)['dbSize']} after")
    if full:
        space.disarm(gateway, endpoints, lambda endpoint: _status(gateway, endpoint))


def snapshot() -> None:
    """Write one snapshot, verify it, and delete the oldest ones."""
    plan = json.loads(PLAN.read_text())
    gateway = _root(plan["endpoints"], 60)
    cluster, now = plan["name"], datetime.datetime.now(datetime.UTC)
    for old in snapshots.delete_abandoned(SNAPSHOTS, cluster, now):
        say(f"deleted {old.name}, which is incomplete")
    endpoint, state = _follower(gateway, plan["endpoints"])
    target = SNAPSHOTS / snapshots.name(cluster, now)
    try:
        with snapshots.temporary(target) as part:
            _receive(gateway, endpoint, part)
            snapshots.check(part)
            # Verify that the database can be opened.
            subprocess.run(["etcdutl", "snapshot", "status", str(part)], check=True)
    except (*_FAILED, snapshots.DamagedError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            f"no snapshot of {endpoint}; the existing ones are kept: {error}"
        ) from error
    say(f"snapshot {target.name} of {endpoint} at revision {state['header']['revision']}")
    for old in snapshots.existing(SNAPSHOTS, cluster)[: -plan["keep"]]:
        old.unlink()
        say(f"deleted {old.name}")


def _receive(gateway: Gateway, endpoint: str, to: Path) -> None:
    with to.open("wb") as file:
        for piece in gateway.stream("/v3/maintenance/snapshot", endpoint):
            file.write(base64.b64decode(piece.get("blob", "")))
        file.flush()
        os.fsync(file.fileno())


def serve() -> None:
    """Serve snapshots to members that restore them, until SIGTERM."""

    def answer(path: str) -> Path | None:
        file = SNAPSHOTS / path.removeprefix("/")
        return (
            file if file.parent == SNAPSHOTS and file.suffix == ".db" and file.is_file() else None
        )

    with serving(at.SNAPSHOT_PORT, answer):
        signal.pause()


def _root(endpoints: list[str], timeout: float) -> Gateway:
    return Gateway(endpoints, at.CLIENT_CA, at.root_passwords, timeout=timeout)


def _status(gateway: Gateway, endpoint: str) -> dict[str, Any]:
    status: dict[str, Any] = gateway.call("/v3/maintenance/status", {}, endpoint)
    # This program handles the alarm NOSPACE itself.
    others = [error for error in status.get("errors", ()) if f"alarm:{space.ALARM}" not in error]
    if others:
        raise SystemExit(f"{endpoint} is unhealthy: {others}; nothing was changed")
    return status


def _follower(gateway: Gateway, endpoints: list[str]) -> tuple[str, dict[str, Any]]:
    """The first follower, or else the leader.

    A member without a leader may be far behind the cluster.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    for endpoint in endpoints:
        try:
            state = gateway.call("/v3/maintenance/status", {}, endpoint)
        except _FAILED as error:
            say(f"{endpoint} does not respond: {error}")
            continue
        # Protobuf's JSON writes 64-bit numbers as strings, and omits 0.
        if state.get("leader", "0") in ("0", 0):
            say(f"{endpoint} has no leader")
            continue
        found.append((endpoint, state))
        if state["header"]["member_id"] != state["leader"]:
            break
    if not found:
        raise SystemExit("no member with a leader responds; the existing snapshots are kept")
    return found[-1]


def _wait(gateway: Gateway, endpoint: str) -> None:
    end = time.monotonic() + _HEALTHY_SECONDS
    while True:
        try:
            gateway.call("/v3/kv/range", {"key": "AA==", "limit": "1", "keys_only": True}, endpoint)
        except _FAILED as error:
            if time.monotonic() > end:
                raise SystemExit(f"{endpoint} is not healthy again: {error}; stopping") from None
            time.sleep(1)
        else:
            return
