"""What a killed run leaves is put right; what is alive or not ours is left alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.dynamic.exceptions import NotFoundError
from kubernetes.dynamic.resource import ResourceInstance

from toolchain import api_server, created, process, recovery
from toolchain.errors import ToolchainError
from toolchain.paths import Checkout
from toolchain.process import Process

ZONE = timezone(timedelta(hours=2))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    found = Checkout(tmp_path)
    found.make_private()
    return found


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"],
                             stdout=subprocess.PIPE)  # fmt: skip
    assert child.stdout is not None
    child.stdout.readline()
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def lock(checkout: Checkout, stack: str = "x", **changes: Any) -> Path:
    file = checkout.state / f".pulumi/locks/organization/dds/{stack}/id.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    # As Go writes it: nanoseconds and a zone.
    now = datetime.now(ZONE).strftime("%Y-%m-%dT%H:%M:%S.%f") + "123+02:00"
    document = {"pid": os.getpid(), "username": "u", "hostname": socket.gethostname(),
                "timestamp": now, **changes}  # fmt: skip
    file.write_text(json.dumps(document))
    return file


def dead_pid() -> int:
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_the_lock_of_a_dead_process_goes(checkout: Checkout) -> None:
    file = lock(checkout, pid=dead_pid())
    before = time.time()
    assert recovery.remove_stale_locks(checkout, "x") == pytest.approx(before, abs=60)
    assert not file.exists()
    assert recovery.remove_stale_locks(checkout, "x") is None


def test_the_lock_of_a_live_process_is_an_error_that_names_it(checkout: Checkout) -> None:
    file = lock(checkout)
    with pytest.raises(ToolchainError, match=f"stack x: process {os.getpid()} is working on it"):
        recovery.remove_stale_locks(checkout, "x")
    assert file.exists()


def test_a_number_that_was_given_to_a_later_process_does_not_hold_the_lock(
    checkout: Checkout,
) -> None:
    file = lock(checkout, timestamp="2001-02-03T04:05:06.123456789Z")
    recovery.remove_stale_locks(checkout, "x")
    assert not file.exists()


def test_the_lock_of_another_host_stays(checkout: Checkout) -> None:
    file = lock(checkout, hostname="elsewhere", pid=dead_pid())
    recovery.remove_stale_locks(checkout, "x")
    assert file.exists()


def test_half_a_lock_goes(checkout: Checkout) -> None:
    file = lock(checkout)
    file.write_text('{"pid":')
    recovery.remove_stale_locks(checkout, "x")
    assert not file.exists()


def test_another_stacks_lock_stays(checkout: Checkout) -> None:
    file = lock(checkout, stack="other", pid=dead_pid())
    recovery.remove_stale_locks(checkout, "x")
    assert file.exists()


def test_a_zombie_counts_as_gone() -> None:
    child = subprocess.Popen(["true"])
    deadline = time.monotonic() + 10
    while Process.of(child.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Process.of(child.pid) is None
    child.wait()


def test_started_before(sleeper: subprocess.Popen[bytes]) -> None:
    assert process.started_before(sleeper.pid, time.time())
    assert not process.started_before(sleeper.pid, time.time() - 3600)


def test_the_cli_of_a_killed_run_is_stopped(
    checkout: Checkout, sleeper: subprocess.Popen[bytes]
) -> None:
    found = Process.of(sleeper.pid)
    assert found is not None
    checkout.run_record.write_text(json.dumps({"pid": found.pid, "started": found.started}))
    recovery.end_orphan(checkout)
    assert not found.alive
    assert not checkout.run_record.exists()


def test_a_process_that_only_has_the_recorded_number_is_left_alone(
    checkout: Checkout, sleeper: subprocess.Popen[bytes]
) -> None:
    checkout.run_record.write_text(json.dumps({"pid": sleeper.pid, "started": 1}))
    recovery.end_orphan(checkout)
    assert sleeper.poll() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_half_a_run_record_is_no_error(checkout: Checkout, text: str) -> None:
    checkout.run_record.write_text(text)
    recovery.end_orphan(checkout)


CONFIG_MAP: dict[str, Any] = {
    "urn": "urn:pulumi:x::dds::kubernetes:core/v1:ConfigMap::c",
    "type": "kubernetes:core/v1:ConfigMap",
    "inputs": {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c-1234", "namespace": "n"},
    },
}
CONTAINER: dict[str, Any] = {
    "urn": "urn:pulumi:x::dds::docker:index/container:Container::server",
    "type": "docker:index/container:Container",
    "inputs": {"name": "dds-000000-server"},
}


def deployment(*pending: tuple[str, dict[str, Any]], held: Any = ()) -> dict[str, Any]:
    return {
        "resources": list(held),
        "pending_operations": [{"type": kind, "resource": resource} for kind, resource in pending],
    }


def test_only_creations_leave_something_to_delete() -> None:
    state = deployment(
        ("creating", CONFIG_MAP), ("updating", CONTAINER), ("deleting", CONTAINER),
        ("reading", CONTAINER),
    )  # fmt: skip
    assert list(recovery.unfinished_creations(state)) == [CONFIG_MAP]


def test_what_the_state_holds_is_not_deleted() -> None:
    state = deployment(("creating", CONFIG_MAP), held=[{**CONFIG_MAP, "id": "n/c-1234"}])
    assert list(recovery.unfinished_creations(state)) == []


def test_a_namesake_in_another_namespace_does_not_protect() -> None:
    elsewhere = json.loads(json.dumps(CONFIG_MAP))
    elsewhere["inputs"]["metadata"]["namespace"] = "other"
    state = deployment(("creating", CONFIG_MAP), held=[{**elsewhere, "id": "other/c-1234"}])
    assert list(recovery.unfinished_creations(state)) == [CONFIG_MAP]


class FakeCli:
    """Holds a state, as the CLI's export and import would."""

    uses_own_backend = True
    environment: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, checkout: Checkout, deployment: dict[str, Any]) -> None:
        self.checkout = checkout
        self.state = {"version": 3, "deployment": deployment}
        file = checkout.state / ".pulumi/stacks/dds/x.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"checkpoint": {"latest": deployment}}))
        self.imported: dict[str, Any] | None = None

    def export(self, stack: str) -> dict[str, Any]:
        assert stack == "x"
        loaded: dict[str, Any] = json.loads(json.dumps(self.state))
        return loaded

    def import_(self, stack: str, state: dict[str, Any]) -> None:
        assert stack == "x"
        self.imported = state


def test_pending_operations_are_settled(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted = []
    lock(checkout, pid=dead_pid(), timestamp="2001-02-03T04:05:06Z")
    began = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC).timestamp()
    monkeypatch.setattr(created, "delete", lambda _checkout, _env, *found: deleted.append(found))
    held = [{**CONTAINER, "id": "1"}]
    cli = FakeCli(
        checkout, deployment(("creating", CONFIG_MAP), ("updating", CONTAINER), held=held)
    )
    recovery.recover(cli, ["x"])  # type: ignore[arg-type]
    assert deleted == [(CONFIG_MAP, began)]
    assert cli.imported is not None
    assert cli.imported["deployment"]["pending_operations"] == []
    assert cli.imported["deployment"]["resources"] == held


def test_a_clean_state_is_not_written(checkout: Checkout) -> None:
    cli = FakeCli(checkout, deployment(held=[{**CONTAINER, "id": "1"}]))
    recovery.recover(cli, ["x", "never-made"])  # type: ignore[arg-type]
    assert cli.imported is None


MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


PULUMI = "pulumi-kubernetes-12ab"
CLAIM = "PersistentVolumeClaim"


@pytest.mark.parametrize(
    ("kind", "manager", "autonamed", "began", "reason"),
    [
        ("Job", PULUMI, False, MADE.timestamp() + 0.9, ""),
        ("Job", PULUMI, False, MADE.timestamp() + 1.0, "is older than the killed run"),
        # A creation takes over what is there: without a time nobody knows whose it was.
        ("Job", PULUMI, False, None, "may be older than the killed run"),
        ("Job", PULUMI, True, None, ""),
        ("Job", "kubectl", True, MADE.timestamp(), "is not Pulumi's"),
        # A controller may have made it in the meantime, and a pod have written to it.
        (CLAIM, PULUMI, False, MADE.timestamp(), "may hold data"),
        # Nothing knew its name before its creation was done.
        (CLAIM, PULUMI, True, None, ""),
    ],
)
def test_only_what_the_killed_run_made_is_deleted(
    kind: str, manager: str, autonamed: bool, began: float | None, reason: str
) -> None:
    found = SimpleNamespace(
        managedFields=[{"manager": manager}], creationTimestamp="2026-01-02T03:04:05Z"
    )
    declared = {"annotations": {"pulumi.com/autonamed": "true"}} if autonamed else {}
    assert created._not_made(kind, found, declared, began) == reason


class FakeCluster:
    """Objects of one namespace, and a garbage collector for what they own."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.kind = ""
        self.resources = SimpleNamespace(get=self._of_kind)

    def add(self, kind: str, name: str, owner: str = "", **more: Any) -> None:
        metadata = {
            "name": name,
            "namespace": "n",
            "labels": {"app": "db"},
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "managedFields": [{"manager": PULUMI}],
            "ownerReferences": [{"name": owner}] if owner else None,
        }
        self.objects[kind, name] = {"kind": kind, "metadata": metadata, **more}

    def _of_kind(self, *, kind: str, **_version: str) -> FakeCluster:
        found = FakeCluster()
        found.objects, found.kind = self.objects, kind
        return found

    def get(self, namespace: str, name: str = "", label_selector: str = "") -> Any:
        assert namespace == "n"
        if name:
            if (self.kind, name) not in self.objects:
                raise NotFoundError(SimpleNamespace(status=404, reason="", body="", headers={}))  # type: ignore[no-untyped-call]
            return ResourceInstance(None, self.objects[self.kind, name])  # type: ignore[no-untyped-call]
        assert label_selector == "app=db"
        kept = [body for (kind, _), body in self.objects.items() if kind == self.kind]
        return SimpleNamespace(items=[ResourceInstance(None, body) for body in kept])  # type: ignore[no-untyped-call]

    def delete(self, namespace: str, name: str, body: Any = None) -> None:
        self.get(namespace, name)
        del self.objects[self.kind, name]
        for key, other in list(self.objects.items()):
            if other["metadata"]["ownerReferences"] == [{"name": name}]:
                if (body or {}).get("propagationPolicy") == "Orphan":
                    other["metadata"]["ownerReferences"] = None
                else:
                    del self.objects[key]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    found = FakeCluster()
    monkeypatch.setattr(api_server, "of_the_command", lambda _environment: None)
    monkeypatch.setattr("kubernetes.dynamic.DynamicClient", lambda _connection: found)
    return found


def pending(kind: str, name: str) -> dict[str, Any]:
    api, group = ("v1", "core/v1") if kind == CLAIM else ("apps/v1", "apps/v1")
    metadata = {"name": name, "namespace": "n"}
    return {
        "type": f"kubernetes:{group}:{kind}",
        "inputs": {"apiVersion": api, "kind": kind, "metadata": metadata},
    }


def test_a_claim_stays_where_its_creation_was_under_way(
    checkout: Checkout, fake: FakeCluster
) -> None:
    fake.add(CLAIM, "data-db-0")
    created.delete(checkout, {}, pending(CLAIM, "data-db-0"), MADE.timestamp())
    assert set(fake.objects) == {(CLAIM, "data-db-0")}


def test_the_claims_stay_where_that_of_a_stateful_set_was_which_would_take_them_along(
    checkout: Checkout, fake: FakeCluster
) -> None:
    selector = {"matchLabels": {"app": "db"}}
    fake.add("StatefulSet", "db", spec={"selector": selector})
    for ordinal in range(2):
        fake.add("Pod", f"db-{ordinal}", owner="db")
        fake.add(CLAIM, f"data-db-{ordinal}", owner="db")
    fake.add("Pod", "db-2-debug")
    fake.add("Pod", "db-3", owner="other")
    created.delete(checkout, {}, pending("StatefulSet", "db"), MADE.timestamp())
    assert set(fake.objects) == {
        (CLAIM, "data-db-0"), (CLAIM, "data-db-1"), ("Pod", "db-2-debug"), ("Pod", "db-3"),
    }  # fmt: skip


def test_a_deployment_goes_with_all_that_is_its_own(checkout: Checkout, fake: FakeCluster) -> None:
    fake.add("Deployment", "web")
    fake.add("ReplicaSet", "web-1", owner="web")
    created.delete(checkout, {}, pending("Deployment", "web"), MADE.timestamp())
    assert not fake.objects
