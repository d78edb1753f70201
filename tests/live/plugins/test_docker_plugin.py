"""The project's Docker plugin, driven by the real CLI on the machine's Docker Engine."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
import pytest

from tests.live.support.stacks import Stack, Update, UpdateError, kill_group
from tests.live.support.waiting import eventually
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.live.support.cluster import Cluster

PROGRAM = Path(__file__).parent / "docker_objects"
IMAGE = "debian:bookworm-slim"
LABEL = "dds.instance"
HEALTHY = {"tests": ["CMD", "true"], "interval": "1s", "timeout": "5s"}
Object = dict[str, Any]


class Program:
    """A throw-away stack of Docker objects with names of its own."""

    def __init__(self, stack: Stack, instance: str) -> None:
        self.stack = stack
        self.instance = instance
        self.labels = [{"label": LABEL, "value": instance}]

    def name(self, suffix: str) -> str:
        return f"{self.instance}-{suffix}"

    def declare(self, *objects: Object) -> None:
        (self.stack.work / "objects.json").write_text(json.dumps(objects))

    def up(self, *objects: Object, refresh: bool = False) -> dict[str, str]:
        """``pulumi up``; the operation on each object that was not left as it was."""
        self.declare(*objects)
        more = ["--refresh"] if refresh else []
        update = self.stack._update("up", "--yes", "--skip-preview", *more)
        return _by_name(update)

    def preview(self, *objects: Object) -> dict[str, str]:
        self.declare(*objects)
        return _by_name(self.stack.preview())

    def failing(self, *objects: Object) -> str:
        """What the CLI says of a program that cannot be carried out."""
        self.declare(*objects)
        with pytest.raises(UpdateError) as failure:
            self.stack.up()
        assert "Traceback" not in failure.value.output
        return failure.value.output

    def resources(self, *arguments: str) -> dict[str, dict[str, Any]]:
        text = self.stack.run("stack", "export", "--stack", self.stack.name, *arguments)
        return {
            one["urn"].split("::")[-1]: one
            for one in json.loads(text)["deployment"].get("resources") or ()
            if one["type"].startswith("docker:")
        }

    def container(self, **properties: Any) -> Object:
        """A container that sleeps unless told otherwise."""
        defaults = {
            "name": self.name("box"),
            "image": IMAGE,
            "labels": self.labels,
            "command": ["sleep", "3600"],
        }
        return thing("Container", "box", **{**defaults, **properties})


def _by_name(update: Update) -> dict[str, str]:
    return {
        key.split("::")[-1]: operation
        for key, operation in update.changed.items()
        if key.startswith("docker:")
    }


def thing(type_: str, resource: str, /, **properties: Any) -> Object:
    return {"type": type_, "name": resource, "properties": properties}


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.APIClient]:
    client = docker.from_env()
    yield client.api
    client.close()


@pytest.fixture
def objects(cluster: Cluster, engine: docker.APIClient, tmp_path: Path) -> Iterator[Program]:
    instance = f"test-{secrets.token_hex(3)}"
    stack = Stack(cluster, PROGRAM, tmp_path / "stack")
    stack.prepare()
    program = Program(stack, instance)
    yield program
    stack.run("cancel", "--yes", "--stack", stack.name)
    stack.run("destroy", "--yes", "--skip-preview", "--stack", stack.name)
    assert left(engine, instance) == []


def left(engine: Any, instance: str) -> list[str]:
    """Everything in Docker that carries an instance's label."""
    label = {"label": f"{LABEL}={instance}"}
    return [
        *(one["Names"][0] for one in engine.containers(all=True, filters=label)),
        *(one["Name"] for one in engine.networks(filters=label)),
        *(one["Name"] for one in engine.volumes(filters=label)["Volumes"] or ()),
    ]


STEPS: dict[str, tuple[dict[str, Any], str | None]] = {
    "same": ({}, None),
    "memory": ({"memory": 32}, "update"),
    "restart": ({"restart": "unless-stopped"}, "update"),
    "shares": ({"cpu_shares": 512}, "update"),
    "grace": ({"destroy_grace_seconds": 3}, "update"),
    "environment": ({"envs": ["A=b"]}, "replace"),
    "command": ({"command": ["sleep", "3601"]}, "replace"),
    "upload": ({"uploads": [{"file": "/etc/a/b", "content": "c"}]}, "replace"),
    "tmpfs": ({"tmpfs": {"/run": ""}}, "replace"),
}


def test_steps(objects: Program) -> None:
    def boxes(changed: bool) -> list[Object]:
        return [
            {
                **objects.container(name=objects.name(name), **(change if changed else {})),
                "name": name,
            }
            for name, (change, _) in STEPS.items()
        ]

    expected = {name: operation for name, (_, operation) in STEPS.items() if operation}
    assert objects.up(*boxes(changed=False)) == dict.fromkeys(STEPS, "create")
    assert objects.preview(*boxes(changed=True)) == expected
    assert objects.up(*boxes(changed=True)) == expected
    assert objects.up(*boxes(changed=True), refresh=True) == {}
    back = {"memory": "replace", "shares": "replace"}
    assert objects.preview(*boxes(changed=False)) == expected | back


def test_everything_together(objects: Program, engine: Any) -> None:
    port = free_port()
    everything = [
        thing("Network", "net", name=objects.name("net"), labels=objects.labels),
        thing("Network", "unnamed", labels=objects.labels, internal=True),
        thing("Volume", "data", name=objects.name("data"), labels=objects.labels),
        thing("RemoteImage", "image", name=IMAGE, keep_locally=True),
        objects.container(
            image={"$output": ["image", "image_id"]},
            envs=["A=b", {"$secret": "P=very-secret"}],
            networks_advanced=[{"name": {"$output": ["net", "id"]}, "aliases": ["seen"]}],
            volumes=[
                {"volume_name": {"$output": ["data", "name"]}, "container_path": "/data"},
                {"container_path": "/scratch"},
            ],
            ports=[{"internal": 80, "external": port, "ip": "127.0.0.1"}],
            uploads=[{"file": "/etc/a/b.conf", "content": "c", "permissions": "0600"}],
            ulimits=[{"name": "nofile", "soft": 1000, "hard": 2000}],
            hosts=[{"host": "elsewhere", "ip": "192.0.2.1"}],
            sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
            healthcheck=HEALTHY, cgroupns_mode="private", tmpfs={"/run": ""}, wait=True,
        ),
    ]  # fmt: skip
    assert set(objects.up(*everything).values()) == {"create"}
    made = engine.inspect_container(objects.name("box"))
    assert made["State"]["Health"]["Status"] == "healthy"
    assert made["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
    }
    networks = made["NetworkSettings"]["Networks"]
    assert list(networks) == [objects.name("net")]
    assert "seen" in networks[objects.name("net")]["Aliases"]
    run = engine.exec_create(made["Id"], ["stat", "-c", "%a", "/etc/a/b.conf"])
    assert engine.exec_start(run["Id"]).strip() == b"600"

    state = objects.stack.run("stack", "export", "--stack", objects.stack.name)
    assert "very-secret" not in state
    assert objects.up(*everything) == {}
    assert objects.up(*everything, refresh=True) == {}

    anonymous = [mount["Name"] for mount in made["Mounts"] if mount["Destination"] == "/scratch"]
    objects.up()
    assert left(engine, objects.instance) == []
    with pytest.raises(docker.errors.NotFound):
        engine.inspect_volume(anonymous[0])


def test_what_is_not_supported_is_refused_by_name(objects: Program, engine: Any) -> None:
    assert "has no property gpus" in objects.failing(objects.container(gpus="all"))
    said = objects.failing(thing("Tag", "tag", source_image=IMAGE, target_image="x:1"))
    assert "does not support the type docker:index/tag:Tag" in said
    assert left(engine, objects.instance) == []


def test_a_container_that_exits_at_once_fails_at_once(objects: Program) -> None:
    began = time.monotonic()
    said = objects.failing(
        objects.container(
            command=["sh", "-c", "echo these were my last words; exit 3"],
            healthcheck=HEALTHY, wait=True, wait_timeout=120,
        )
    )  # fmt: skip
    assert time.monotonic() - began < 60
    assert "exited with code 3 before it was healthy" in said
    assert "these were my last words" in said
    # What failed is known to the state, so that it is repaired rather than tried anew.
    fixed = objects.container(healthcheck=HEALTHY, wait=True)
    assert objects.up(fixed) == {"box": "replace"}


def test_waiting_for_an_unhealthy_container_is_bounded(objects: Program) -> None:
    said = objects.failing(
        objects.container(
            healthcheck={**HEALTHY, "tests": ["CMD-SHELL", "echo not yet; exit 1"]},
            wait=True, wait_timeout=20,
        )
    )  # fmt: skip
    assert "was not healthy within 20 s" in said
    assert "not yet" in said


def test_a_stopped_or_removed_container_is_noticed(objects: Program, engine: Any) -> None:
    box = objects.container(healthcheck=HEALTHY, wait=True)
    objects.up(box)
    first = engine.inspect_container(objects.name("box"))["Id"]
    engine.stop(first, timeout=0)
    assert objects.up(box, refresh=True) == {"box": "update"}
    again = engine.inspect_container(objects.name("box"))
    assert again["Id"] == first
    assert again["State"]["Running"]
    engine.remove_container(first, force=True)
    assert objects.up(box, refresh=True) == {"box": "create"}


def test_drift_is_repaired(objects: Program, engine: Any) -> None:
    box = objects.container(memory=64)
    objects.up(box)
    engine.update_container(objects.name("box"), mem_limit="32m", memswap_limit="64m")
    assert objects.up(box, refresh=True) == {"box": "update"}
    made = engine.inspect_container(objects.name("box"))
    assert made["HostConfig"]["Memory"] == 64 * 1024 * 1024


def test_a_run_killed_in_the_middle_converges(objects: Program, engine: Any) -> None:
    slow = {**HEALTHY, "tests": ["CMD", "test", "-f", "/healthy"]}
    box = objects.container(
        command=["sh", "-c", "sleep 8; touch /healthy; sleep 3600"], healthcheck=slow, wait=True
    )
    objects.declare(box)
    running = objects.stack.start_up()
    eventually(
        lambda: engine.containers(filters={"name": objects.name("box")}), 60, "the container runs"
    )
    kill_group(running)
    orphan = engine.inspect_container(objects.name("box"))["Id"]
    objects.stack.run("cancel", "--yes", "--stack", objects.stack.name)
    # No state knows the container; its label says that it is ours.
    assert objects.up(box) == {"box": "create"}
    assert engine.inspect_container(objects.name("box"))["Id"] != orphan


def test_what_belongs_to_somebody_else_is_left_alone(objects: Program, engine: Any) -> None:
    name = objects.name("theirs")
    engine.create_volume(name)
    try:
        said = objects.failing(thing("Volume", "mine", name=name, labels=objects.labels))
        assert f"volume '{name}' already exists and it is not this project's" in said
        engine.inspect_volume(name)
    finally:
        engine.remove_volume(name)


def test_import(objects: Program, engine: Any) -> None:
    name = objects.name("there")
    engine.create_volume(name, labels={LABEL: objects.instance})
    declared = thing("Volume", "there", name=name, labels=objects.labels)
    assert objects.up({**declared, "import": name}) == {"there": "import"}
    assert objects.up(declared) == {}


def test_no_daemon_is_one_clear_line(objects: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        patch.setitem(
            objects.stack.cluster.environment, "DOCKER_HOST", "unix:///nowhere/docker.sock"
        )
        said = objects.failing(objects.container())
    assert len(re.findall("no Docker daemon responds at unix:///nowhere/docker.sock", said)) >= 1


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY . /files\n")
    (folder / "a.txt").write_text("one")
    (folder / ".dockerignore").write_text("*.tmp\n")
    return folder


def image(name: str, context: Path) -> Object:
    build = {"context": str(context), "dockerfile": str(context / "Dockerfile")}
    return thing("Image", "image", image_name=name, build=build)


def test_an_image_is_built_when_something_changes_and_only_then(
    objects: Program, cluster: Cluster, context: Path
) -> None:
    declared = image(f"{cluster.registry}/test/{objects.instance}:1", context)

    def digest() -> str:
        return str(objects.resources()["image"]["outputs"]["repoDigest"])

    assert objects.up(declared) == {"image": "create"}
    first = digest()
    assert re.fullmatch(rf"{cluster.registry}/test/{objects.instance}@sha256:[0-9a-f]{{64}}", first)
    (context / "notes.tmp").write_text("ignored")
    assert objects.up(declared) == {}
    (context / "a.txt").write_text("two")
    assert objects.preview(declared) == {"image": "update"}
    assert digest() == first
    assert objects.up(declared) == {"image": "update"}
    second = digest()
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY . /others\n")
    assert objects.up(declared) == {"image": "update"}
    assert len({first, second, digest()}) == 3
    assert objects.up(declared, refresh=True) == {}


def test_a_failing_build_says_why(objects: Program, cluster: Cluster, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo what went wrong; exit 7\n")
    said = objects.failing(image(f"{cluster.registry}/test/{objects.instance}:1", context))
    assert "cannot be built" in said
    assert "what went wrong" in said
    assert "returned a non-zero code: 7" in said


def test_a_missing_context_is_named(objects: Program, context: Path) -> None:
    shutil.rmtree(context)
    assert "no such folder" in objects.failing(image("localhost:1/a:1", context))
