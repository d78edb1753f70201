"""The docker plugin's own decisions: what it refuses, what it takes for a change, what it owns."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import docker.errors
import pytest

from tests.unit.support.wire import RESET, answered, chunked, raw_server
from toolchain.plugins.docker import (
    container,
    container_config,
    context,
    engine,
    image,
    ownership,
    remote_image,
    schema,
)
from toolchain.plugins.docker.provider import RESOURCE_TYPES, DockerProvider
from toolchain.plugins.docker.resources import PartlyDoneError
from toolchain.plugins.provider.cancellation import Cancellation
from toolchain.plugins.provider.engine import Engine
from toolchain.plugins.provider.errors import CancelledError, ProviderError
from toolchain.plugins.provider.provider import CheckRequest, CreateRequest, DiffKind, DiffRequest
from toolchain.plugins.provider.values import UNKNOWN, Secret

CONTAINER = "docker:index/container:Container"
NETWORK = "docker:index/network:Network"
VOLUME = "docker:index/volume:Volume"
IMAGE = "docker:index/image:Image"


@pytest.fixture
def provider() -> DockerProvider:
    return DockerProvider(Engine("127.0.0.1:1"), Cancellation())


def check(provider: DockerProvider, type_: str, inputs: dict[str, Any]) -> Any:
    return provider.check(
        CheckRequest("urn", type_, "web", old_inputs={}, inputs=inputs, random_seed=b"\xab" * 16)
    )


def diff(
    provider: DockerProvider,
    type_: str,
    old: dict[str, Any],
    new: dict[str, Any],
    *,
    state: dict[str, Any] | None = None,
    ignore: tuple[str, ...] = (),
) -> Any:
    before = check(provider, type_, old).inputs
    after = check(provider, type_, new).inputs
    return provider.diff(
        DiffRequest(
            "urn", type_, "web", identity="1", old_inputs=before,
            state=before if state is None else {**before, **state},
            inputs=after, ignore_changes=ignore,
        )
    )  # fmt: skip


BASE = {"name": "web", "image": "redis:7"}


@pytest.mark.parametrize(
    ("type_", "inputs", "path", "text"),
    [
        (CONTAINER, {"image": "a", "gpus": "all"}, "gpus", "has no property gpus"),
        (CONTAINER, {"image": "a", "imege": "a"}, "imege", "did you mean image?"),
        (CONTAINER, {}, "image", "is required"),
        (CONTAINER, {"image": 3}, "image", "must be a string"),
        (CONTAINER, {"image": "a", "memory": 1.5}, "memory", "an integer"),
        (CONTAINER, {"image": "a", "restart": "sometimes"}, "restart", "unless-stopped"),
        (CONTAINER, {"image": "a", "envs": ["A=b", 1]}, "envs[1]", "must be a string"),
        (CONTAINER, {"image": "a", "ports": [{"internal": 1}]}, "ports[0].external", "required"),
        (
            CONTAINER,
            {"image": "a", "ports": [{"internal": 1, "external": 2, "port": 3}]},
            "ports[0].port",
            "has no property port",
        ),
        (CONTAINER, {"image": "a", "uploads": [{"file": "/a"}]}, "uploads[0]", "either content"),
        (
            CONTAINER,
            {"image": "a", "uploads": [{"file": "/a", "content": ""}]},
            "uploads[0]",
            "must not be empty",
        ),
        (CONTAINER, {"image": "a", "volumes": [{}]}, "volumes[0]", "either containerPath"),
        (
            CONTAINER,
            {"image": "a", "healthcheck": {"tests": ["CMD", "x"], "interval": "soon"}},
            "healthcheck.interval",
            "duration",
        ),
        (CONTAINER, {"image": "a", "cgroupnsMode": "shared"}, "cgroupnsMode", "private, host"),
        (NETWORK, {"ingress": True}, "ingress", "has no property ingress"),
        (VOLUME, {"cluster": {}}, "cluster", "has no property cluster"),
        (IMAGE, {"imageName": "a/b:1", "buildOnPreview": True}, "buildOnPreview", "preview"),
        (
            IMAGE,
            {"imageName": "a/b:1", "build": {"context": "/nowhere"}},
            "build.context",
            "folder",
        ),
        (
            IMAGE,
            {"imageName": "a/b:1", "build": {"builderVersion": "BuilderBuildKit"}},
            "build.builderVersion",
            "BuilderV1",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    provider: DockerProvider, type_: str, inputs: dict[str, Any], path: str, text: str
) -> None:
    failures = {one.property: one.reason for one in check(provider, type_, inputs).failures}
    assert text in failures[path]


def test_an_unknown_type_is_refused_by_name(provider: DockerProvider) -> None:
    with pytest.raises(ProviderError, match=r"does not support the type docker:index/service:Serv"):
        check(provider, "docker:index/service:Service", {})


def test_only_the_host_can_be_configured(provider: DockerProvider) -> None:
    result = provider.check_config({}, {"host": "tcp://h", "version": "5.2.0", "sshOpts": ["-i"]})
    assert [one.property for one in result.failures] == ["sshOpts"]


@pytest.mark.parametrize("type_", sorted(RESOURCE_TYPES))
def test_what_is_unknown_in_a_preview_passes(provider: DockerProvider, type_: str) -> None:
    fields = RESOURCE_TYPES[type_].fields
    # What only the plugin itself fills in is never given.
    result = check(provider, type_, dict.fromkeys(fields, UNKNOWN))
    assert not result.failures


def test_a_secret_stays_one_through_check_and_preview(provider: DockerProvider) -> None:
    inputs = {"image": "a", "envs": ["A=b", Secret("P=s")]}
    checked = check(provider, CONTAINER, inputs).inputs
    assert checked["envs"] == ["A=b", Secret("P=s")]
    _, state = provider.create(
        CreateRequest("urn", CONTAINER, "web", inputs=checked, timeout=0, preview=True)
    )
    assert state["envs"] == ["A=b", Secret("P=s")]


def test_a_name_is_made_once_and_kept(provider: DockerProvider) -> None:
    first = check(provider, NETWORK, {}).inputs
    assert first["name"] == "web-abababa"
    assert "name" in first["__defaults"]
    other = provider.check(
        CheckRequest("urn", NETWORK, "web", old_inputs=first, inputs={}, random_seed=b"\x01" * 16)
    )
    assert other.inputs["name"] == first["name"]


@pytest.mark.parametrize(
    ("change", "replaced"),
    [
        ({"restart": "always"}, False),
        ({"memory": 64}, False),
        ({"cpuShares": 5}, False),
        ({"wait": True}, False),
        ({"destroyGraceSeconds": 5}, False),
        ({"command": ["x"]}, True),
        ({"image": "redis:8"}, True),
        ({"envs": ["A=b"]}, True),
        ({"privileged": True}, True),
        ({"ports": [{"internal": 1, "external": 2}]}, True),
        ({"uploads": [{"file": "/a", "content": "b"}]}, True),
        ({"tmpfs": {"/run": ""}}, True),
        ({"labels": [{"label": "a", "value": "b"}]}, True),
        ({"networksAdvanced": [{"name": UNKNOWN}]}, True),
    ],
)
def test_what_docker_can_change_is_updated_and_the_rest_replaced(
    provider: DockerProvider, change: dict[str, Any], replaced: bool
) -> None:
    result = diff(provider, CONTAINER, BASE, {**BASE, **change})
    assert list(result.details) == list(change)
    kind = next(iter(result.details.values()))
    assert kind.name.endswith("_REPLACE") is replaced
    back = diff(provider, CONTAINER, {**BASE, **change}, BASE)
    assert list(back.details) == list(change)


@pytest.mark.parametrize("limit", [{"memory": 64}, {"cpuShares": 5}, {"cpuSet": "0"}])
def test_a_limit_can_only_be_taken_away_with_the_container(
    provider: DockerProvider, limit: dict[str, Any]
) -> None:
    # The daemon takes a zero for "as it is".
    (gone,) = diff(provider, CONTAINER, {**BASE, **limit}, BASE).details.values()
    assert gone is DiffKind.DELETE_REPLACE


@pytest.mark.parametrize(
    "same",
    [
        ({"envs": ["A=b", "C=d"]}, {"envs": ["C=d", "A=b"]}),
        ({"memory": 0}, {}),
        ({"command": []}, {}),
        (
            {"ports": [{"internal": 1, "external": 2}]},
            {
                "ports": [
                    {
                        "internal": 1,
                        "external": 2,
                        "ip": "0.0.0.0",
                        "protocol": "tcp",
                    }
                ]
            },
        ),
    ],
)
def test_what_means_the_same_is_no_change(
    provider: DockerProvider, same: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    one, other = same
    assert not diff(provider, CONTAINER, {**BASE, **one}, {**BASE, **other}).details
    assert not diff(provider, CONTAINER, {**BASE, **other}, {**BASE, **one}).details


def test_what_the_daemon_chose_is_no_change(provider: DockerProvider) -> None:
    chosen = {"command": ["from", "image"], "user": "999", "hostname": "abc", "shmSize": 64}
    assert not diff(provider, CONTAINER, BASE, BASE, state=chosen).details


def test_a_stopped_container_is_an_update(provider: DockerProvider) -> None:
    result = diff(provider, CONTAINER, BASE, BASE, state={"mustRun": False})
    assert result.details["mustRun"] in (DiffKind.UPDATE, DiffKind.ADD)


def test_ignored_changes_are_ignored(provider: DockerProvider) -> None:
    assert not diff(
        provider, CONTAINER, BASE, {**BASE, "command": ["x"]}, ignore=("command[0]",)
    ).details


@pytest.mark.parametrize(
    ("type_", "old", "new", "first"),
    [
        (NETWORK, {"name": "n"}, {"name": "n", "internal": True}, True),
        (NETWORK, {"name": "n"}, {"name": "m"}, False),
        (NETWORK, {}, {"internal": True}, False),
        (CONTAINER, {"image": "a"}, {"image": "b"}, True),
    ],
)
def test_what_keeps_its_name_is_deleted_before_it_is_replaced(
    provider: DockerProvider, type_: str, old: dict[str, Any], new: dict[str, Any], first: bool
) -> None:
    assert diff(provider, type_, old, new).delete_before_replace is first


@pytest.mark.parametrize(
    ("text", "amount", "printed"),
    [
        ("0s", 0, "0s"), ("500ms", 5 * 10**8, "500ms"), ("3s", 3 * 10**9, "3s"),
        ("1m30s", 90 * 10**9, "1m30s"), ("90s", 90 * 10**9, "1m30s"),
        ("1h", 3600 * 10**9, "1h0m0s"), ("1.5s", 15 * 10**8, "1.5s"), ("10us", 10**4, "10µs"),
    ],
)  # fmt: skip
def test_durations(text: str, amount: int, printed: str) -> None:
    assert container_config.nanoseconds(text) == amount
    assert container_config.duration(amount) == printed


def test_the_bodies_for_the_daemon() -> None:
    body = container_config.container(
        {
            "image": "i", "memory": 2, "memorySwap": -1, "restart": "always",
            "ports": [{"internal": 80, "external": 8080, "ip": "127.0.0.1", "protocol": "tcp"}],
            "volumes": [
                {"containerPath": "/a", "volumeName": "v", "readOnly": True},
                {"containerPath": "/b"},
                {"fromContainer": "other"},
            ],
            "healthcheck": {"tests": ["CMD", "x"], "interval": "1s", "retries": 3},
            "hosts": [{"host": "h", "ip": "::1"}],
        }
    )  # fmt: skip
    host = body["HostConfig"]
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
    assert body["ExposedPorts"] == {"80/tcp": {}}
    assert host["Binds"] == ["v:/a:ro"]
    assert host["VolumesFrom"] == ["other"]
    assert body["Volumes"] == {"/b": {}}
    assert host["Memory"] == 2 * 1024 * 1024
    assert host["MemorySwap"] == -1
    assert body["Healthcheck"]["Interval"] == 10**9
    assert "StartInterval" not in body["Healthcheck"]
    assert host["ExtraHosts"] == ["h:::1"]


@pytest.mark.parametrize(
    ("upload", "content", "mode"),
    [
        ({"content": "ä"}, "ä".encode(), 0o644),
        ({"content": "x", "executable": True}, b"x", 0o744),
        ({"contentBase64": base64.b64encode(b"\xff").decode()}, b"\xff", 0o644),
        ({"content": "x", "permissions": "0600", "executable": True}, b"x", 0o600),
    ],
)
def test_uploads(upload: dict[str, Any], content: bytes, mode: int) -> None:
    assert container_config.uploaded({"file": "/f", **upload}) == ("/f", content, mode)


class Daemon:
    """What a daemon answers, as far as a test needs it."""

    def __init__(self, states: list[dict[str, Any]], log: bytes = b"") -> None:
        self.states = states
        self.log = log
        self.started = 0

    def inspect_container(self, _identity: str) -> dict[str, Any]:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def start(self, _identity: str) -> None:
        self.started += 1

    def logs(self, _identity: str, tail: int) -> bytes:
        return b"\n".join(self.log.splitlines()[-tail:])


def state(status: str, health: str | None = "starting", restarts: int = 0, code: int = 0) -> Any:
    known = {"Status": health, "Log": [{"ExitCode": 1, "Output": "no answer"}]} if health else None
    return {
        "RestartCount": restarts,
        "State": {"Status": status, "ExitCode": code, "Health": known},
    }


def operation(daemon: Any, cancellation: Cancellation | None = None) -> engine.Operation:
    return engine.Operation(daemon, lambda _: None, cancellation or Cancellation())


WAITING = {"name": "web", "wait": True, "waitTimeout": 1}


def test_waiting_ends_with_health() -> None:
    daemon = Daemon([state("created"), state("running"), state("running", "healthy")])
    container._start(operation(daemon), "1", WAITING)
    assert daemon.started == 1


@pytest.mark.parametrize(
    "ended", [state("exited", code=3), state("restarting", code=3), state("running", restarts=1)]
)
def test_waiting_ends_at_once_when_the_container_does(ended: Any) -> None:
    daemon = Daemon([state("created"), ended], b"first\nlast words")
    with pytest.raises(ProviderError, match=r"exited with code \d before it was healthy") as error:
        container._start(operation(daemon), "1", {**WAITING, "waitTimeout": 5})
    assert "last words" in str(error.value)


def test_restarts_of_before_do_not_count() -> None:
    daemon = Daemon([state("running", restarts=4), state("running", "healthy", restarts=4)])
    container._start(operation(daemon), "1", WAITING)


def test_waiting_is_bounded_and_says_what_the_check_said() -> None:
    daemon = Daemon([state("running")], b"booting")
    with pytest.raises(ProviderError, match=r"not healthy within 1 s") as error:
        container._start(operation(daemon), "1", WAITING)
    assert "no answer" in str(error.value)
    assert "booting" in str(error.value)


def test_waiting_needs_a_health_check() -> None:
    with pytest.raises(ProviderError, match="no health check"):
        container._start(operation(Daemon([state("running", None)])), "1", WAITING)


def test_waiting_ends_when_the_user_cancels() -> None:
    cancellation = Cancellation()
    cancellation.request()
    with pytest.raises(CancelledError):
        container._start(operation(Daemon([state("running")]), cancellation), "1", WAITING)


OURS = {"dds.instance": "one"}


class Existing(Daemon):
    """A daemon with one container that has the name already."""

    def __init__(self, labels: dict[str, str] | None) -> None:
        super().__init__([{"Id": "1", "Name": "/web", "Config": {"Labels": labels}}])
        self.removed: list[str] = []

    def remove_container(self, identity: str, **_: object) -> None:
        self.removed.append(identity)


def test_a_leftover_of_our_own_is_taken_away() -> None:
    daemon = Existing(OURS)
    ownership.clear_container(operation(daemon), "web", OURS)
    assert daemon.removed == ["1"]


@pytest.mark.parametrize(
    ("theirs", "wanted"),
    [({"dds.instance": "two"}, OURS), ({}, OURS), (None, OURS), (OURS, {}), ({}, {})],
)
def test_what_is_not_ours_is_left_alone(
    theirs: dict[str, str] | None, wanted: dict[str, str]
) -> None:
    daemon = Existing(theirs)
    with pytest.raises(ProviderError, match=r"container 'web' already exists"):
        ownership.clear_container(operation(daemon), "web", wanted)
    assert daemon.removed == []


def test_no_daemon_is_one_clear_line(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/docker.sock"
    with pytest.raises(ProviderError) as error, engine.connect(address):
        pass
    assert str(error.value).startswith(f"no Docker daemon responds at {address}")
    assert "\n" not in str(error.value)


def test_a_container_that_fails_to_start_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Daemon):
        def create_container_from_config(self, *_: object) -> dict[str, str]:
            return {"Id": "77"}

        def start(self, _identity: str) -> None:
            response = SimpleNamespace(status_code=500, reason="", url="")
            raise docker.errors.APIError("", response, "port is already allocated")  # type: ignore[arg-type]

        def inspect_container(self, _identity: str) -> dict[str, Any]:
            raise docker.errors.NotFound("gone")

    monkeypatch.setattr(container, "ensure_present", lambda *_: {})
    monkeypatch.setattr(container, "_connect", lambda *_: None)
    monkeypatch.setattr(container, "_start", lambda op, identity, _: op.client.start(identity))
    with pytest.raises(PartlyDoneError, match="port is already allocated") as error:
        container._create(operation(Failing([])), {"name": "web", "image": "a"})
    assert error.value.identity == "77"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (tmp_path / "src" / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / "c.tmp").write_text("c")
    (tmp_path / ".dockerignore").write_text("# notes\n*.tmp\n")
    return tmp_path


def names_in(file: IO[bytes]) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(file.read())) as archive:
        return archive.getnames()


def digest(folder: Path) -> str:
    return context.digest(folder, folder / "Dockerfile")


@pytest.mark.parametrize(
    ("ignore", "kept"),
    [
        ("*\n!projects/*/src\n", {"projects/a/src/x", "projects/a/src/deep/y"}),
        ("*\n!projects/*/src\n**/deep\n", {"projects/a/src/x"}),
        ("projects\n!projects/a/README.md\n", {"README.md", "UPPER", "projects/a/README.md"}),
        ("**/src\n", {"README.md", "UPPER", "projects/a/README.md"}),
        ("upper\n/projects/\n", {"README.md", "UPPER"}),
        ("[^R]*\n", {"README.md"}),
        (".\n# projects\n*/*/src\nREADME.md\n", {"UPPER", "projects/a/README.md"}),
        ("!projects\n*\n", set()),
    ],
)
def test_what_is_ignored_is_what_buildkit_ignores(
    tmp_path: Path, ignore: str, kept: set[str]
) -> None:
    for name in ("README.md", "UPPER", "projects/a/README.md", "projects/a/src/x",
                 "projects/a/src/deep/y"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "Dockerfile.dockerignore").write_text(ignore + "Dockerfile.dockerignore\n")
    patterns = context.ignore_patterns(tmp_path, tmp_path / "Dockerfile")
    assert {name for name, _ in context.files(tmp_path, patterns)} == kept


def test_the_digest_follows_what_is_built(folder: Path) -> None:
    first = digest(folder)
    os.utime(folder / "b.txt", (1, 1))
    (folder / "c.tmp").write_text("ignored")
    assert digest(folder) == first
    changes: list[Callable[[], object]] = [
        lambda: (folder / "b.txt").write_text("other"),
        lambda: (folder / "b.txt").rename(folder / "d.txt"),
        lambda: (folder / "d.txt").chmod(0o755),
        lambda: (folder / "Dockerfile").write_text("FROM debian\n"),
        lambda: (folder / "link").symlink_to("d.txt"),
        lambda: (folder / "new").write_text(""),
        lambda: (folder / ".dockerignore").write_text("src\n"),
    ]
    seen = {first}
    for change in changes:
        change()
        assert digest(folder) not in seen
        seen.add(digest(folder))


def test_the_digest_is_the_official_plugins(tmp_path: Path) -> None:
    # The algorithm, spelled out for one file: name, mode and content's digest, ended by a zero.
    text = b"FROM scratch\n"
    (tmp_path / "Dockerfile").write_bytes(text)
    (tmp_path / "Dockerfile").chmod(0o644)
    content = hashlib.sha256(text).digest()
    parts = b"Dockerfile----------" + content + b"\0" + b"Dockerfile-rw-r--r--" + content + b"\0"
    assert digest(tmp_path) == hashlib.sha256(parts).hexdigest()


@pytest.mark.parametrize(
    ("mode", "text"),
    [(0o100644, "-rw-r--r--"), (0o120777, "Lrwxrwxrwx"), (0o104755, "urwxr-xr-x"), (0, "-" * 10)],
)
def test_modes_are_printed_as_go_does(mode: int, text: str) -> None:
    assert context.go_mode(mode) == text


def test_the_archive_holds_what_is_not_ignored(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "Other.Dockerfile"
    outside.write_text("FROM scratch\n")
    with context.archive(folder / "src", outside) as (file, name):
        names = names_in(file)
    assert set(names) == {"a.txt", name}
    with context.archive(folder, folder / "Dockerfile") as (file, name):
        names = names_in(file)
    assert name == "Dockerfile"
    assert "c.tmp" not in names
    assert {"b.txt", "src/a.txt", "Dockerfile"} <= set(names)


def test_an_ignored_dockerfile_is_sent_nevertheless(folder: Path) -> None:
    (folder / ".dockerignore").write_text("Dockerfile\n")
    with context.archive(folder, folder / "Dockerfile") as (file, name):
        assert name in names_in(file)


def test_credentials_are_no_reason_to_build(provider: DockerProvider, folder: Path) -> None:
    def inputs(**registry: str) -> dict[str, Any]:
        return {
            "imageName": "localhost:1/a:b", "build": {"context": str(folder)}, "registry": registry,
        }  # fmt: skip

    old = check(provider, IMAGE, inputs(server="s", password="one")).inputs
    for registry, changed in (
        ({"server": "s", "password": "two"}, False),
        ({"server": "t", "password": "one"}, True),
    ):
        request = DiffRequest(
            "urn", IMAGE, "web", identity="1", old_inputs=old, state={"__inputs": Secret(old)},
            inputs=check(provider, IMAGE, inputs(**registry)).inputs, ignore_changes=(),
        )  # fmt: skip
        assert bool(provider.diff(request).details) is changed


def test_a_changed_file_is_an_update_of_the_image(provider: DockerProvider, folder: Path) -> None:
    inputs = {"imageName": "localhost:1/a:b", "build": {"context": str(folder)}}
    old = check(provider, IMAGE, inputs).inputs
    request = {
        "urn": "urn", "type": IMAGE, "name": "web", "identity": "1", "old_inputs": old,
        "state": {"__inputs": Secret(old)}, "ignore_changes": (),
    }  # fmt: skip
    same = provider.diff(DiffRequest(inputs=check(provider, IMAGE, inputs).inputs, **request))
    assert not same.details
    (folder / "b.txt").write_text("changed")
    other = provider.diff(DiffRequest(inputs=check(provider, IMAGE, inputs).inputs, **request))
    assert other.details == {"build": DiffKind.UPDATE}


def test_canonical_forms_leave_out_zero_values() -> None:
    field = schema.Field("object", fields={"a": schema.Field("integer"), "b": schema.Field("map")})
    assert schema.canonical(field, {"a": 0, "b": {}}) == schema.canonical(field, {"c": 1})


# answers of the daemon that break off

OLD, NEW = (f"sha256:{digit * 64}" for digit in "12")
NAME = "localhost:5000/a:1"


class Builder:
    """A daemon that has an image of the name, and says of a new one what it is given."""

    def __init__(self, *messages: dict[str, Any], named: str = OLD, held: str = OLD) -> None:
        self.messages = messages
        self.named = named
        self.held = held

    def build(self, **_: object) -> Any:
        return iter(self.messages)

    def push(self, *_: object, **__: object) -> Any:
        return iter(self.messages)

    def inspect_image(self, _name: str) -> dict[str, Any]:
        return {"Id": self.named, "RepoDigests": [f"localhost:5000/a@{self.named}"]}

    def inspect_distribution(self, _name: str, _login: object) -> dict[str, Any]:
        return {"Descriptor": {"digest": self.held}}


def build(daemon: Builder, folder: Path) -> None:
    made = {"context": str(folder), "dockerfile": str(folder / "Dockerfile")}
    image._build(operation(daemon), NAME, {**made, "platform": image.host_platform()})


STEP, ID = {"stream": "Step 1/2 : FROM a\n"}, {"aux": {"ID": NEW}}


def test_a_build_is_one_when_its_image_has_the_name(folder: Path) -> None:
    build(Builder(STEP, ID, named=NEW), folder)


@pytest.mark.parametrize("messages", [[STEP], [STEP, ID]])
def test_a_build_whose_end_is_not_said_is_none(messages: Any, folder: Path) -> None:
    with pytest.raises(ProviderError, match="ended before the build was complete"):
        build(Builder(*messages), folder)


def test_a_push_gives_the_digest_that_the_daemon_or_the_registry_says() -> None:
    said = Builder({"status": "Pushed"}, {"aux": {"Digest": NEW}})
    assert image._push(operation(said), NAME, {}) == f"localhost:5000/a@{NEW}"
    held = Builder({"status": "Pushed"})
    assert image._push(operation(held), NAME, {}) == f"localhost:5000/a@{OLD}"


def test_the_digest_of_an_earlier_push_is_not_this_ones() -> None:
    with pytest.raises(ProviderError, match="the registry has a different one"):
        image._push(operation(Builder({"status": "Pushing"}, held=NEW)), NAME, {})


@pytest.mark.parametrize(
    "answer",
    [
        chunked(json.dumps(STEP).encode(), whole=False),
        chunked(b'{"stream": "St', whole=True),
        [chunked(json.dumps(STEP).encode(), whole=False), RESET],
    ],
    ids=["cut", "half a line", "reset"],
)
@pytest.mark.parametrize("what", ["build", "push", "pull"])
def test_an_answer_that_breaks_off_is_one_clear_line(answer: Any, what: str, folder: Path) -> None:
    def run(address: str) -> None:
        with engine.connect(address) as client:
            if what == "build":
                build(client, folder)
            elif what == "push":
                image._push(operation(client), NAME, {})
            else:
                remote_image.ensure_present(operation(client), NAME, None)

    # The first question is for the version of its interface, a pull's second for the image.
    version = answered(b'{"ApiVersion": "1.41"}', "Connection: close")
    missing = answered(b'{"message": "no such image"}', "Connection: close", status="404 Not Found")
    before = [version, missing] if what == "pull" else [version]
    with raw_server(*before, answer) as server:
        address = f"tcp://127.0.0.1:{server.port}"
        with pytest.raises(ProviderError) as error:
            run(address)
    assert str(error.value).startswith(f"the connection to the Docker daemon at {address} was lost")
    assert "\n" not in str(error.value)
