"""Rendered manifests: complete, in order, the same each time, without secrets."""

import base64
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from pulumi_kubernetes.core.v1 import ConfigMap, Secret

import stacks
from dds_patterns import Application, Password, SmokeTest
from dds_patterns.pods.companion import Companion
from stacks.settings import Settings
from tests.unit.support.examples import IMAGE
from tests.unit.support.manifests import assert_valid
from toolchain import render
from toolchain.errors import ToolchainError


def _example(_: Settings) -> None:
    password = Password("password")
    Application(
        "web",
        {
            "image": IMAGE,
            "hosting": {"namespace": "here"},
            "replicas": 2,
            "ports": [{"name": "http", "port": 80}],
            "files": {"/etc/app/app.conf": "one\ntwo\n"},
            "secret_files": {"/etc/secret/password": password.value},
            "companions": [Companion("c", ({"name": "c", "image": IMAGE},))],
        },
    )
    # A name that an application has already is no clash.
    SmokeTest("web", {"image": IMAGE, "script": "exit 0", "covers": [password.value]})
    Secret("typed", string_data={"user.name": pulumi.Output.secret("swordfish"), "open": "yes"})
    Secret("untyped", string_data={"a": "sesame"}, data={"b": "c2VzYW1l"})
    ConfigMap("hidden", data={"a.b": pulumi.Output.secret("swordfish")})


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "COMPOSITIONS", {"example": stacks.Composition(_example)})


def read(files: list[Path]) -> list[dict[str, Any]]:
    return [yaml.safe_load(path.read_text()) for path in files]


@pytest.mark.usefixtures("example")
def test_objects_are_complete_and_valid(tmp_path: Path) -> None:
    files = render.render("example", tmp_path / "out")
    bodies = read(files)
    assert_valid(bodies)
    for path, body in zip(files, bodies, strict=True):
        assert path.name == f"{body['kind'].lower()}-{body['metadata']['name']}.yaml"
        assert body["metadata"]["namespace"] in {"here", "default"}
        if body["kind"] == "Secret":
            for value in body.get("data", {}).values():
                # The API server takes nothing else, redacted or not.
                assert base64.b64decode(value, validate=True) == b"redacted"


@pytest.mark.usefixtures("example")
def test_the_index_names_every_file_in_an_order_to_apply(tmp_path: Path) -> None:
    files = render.render("example", tmp_path)
    assert (tmp_path / "index").read_text().split() == [path.name for path in files]
    assert sorted(path.name for path in tmp_path.glob("*.yaml")) == sorted(p.name for p in files)
    kinds = [body["kind"] for body in read(files)]
    for first, then in (
        ("ServiceAccount", "Deployment"),
        ("NetworkPolicy", "Deployment"),
        ("ConfigMap", "Deployment"),
        ("Secret", "Job"),
        ("Deployment", "Job"),
    ):
        assert kinds.index(first) < kinds.index(then)


@pytest.mark.usefixtures("example")
def test_two_renderings_are_the_same(tmp_path: Path) -> None:
    one, two = (render.render("example", tmp_path / name) for name in ("one", "two"))
    assert [p.name for p in one] == [p.name for p in two]
    assert [p.read_text() for p in one] == [p.read_text() for p in two]


@pytest.mark.usefixtures("example")
def test_secrets_are_redacted_unless_asked_for(tmp_path: Path) -> None:
    redacted = "".join(p.read_text() for p in render.render("example", tmp_path / "out"))
    assert "swordfish" not in redacted
    assert "sesame" not in redacted
    assert "c2VzYW1l" not in redacted
    assert "value-" not in redacted, "a made-up password is shown"
    shown = "".join(
        p.read_text() for p in render.render("example", tmp_path / "out", show_secrets=True)
    )
    assert shown.count("swordfish") == 2
    assert "value-" in shown


@pytest.mark.usefixtures("example")
def test_what_is_not_secret_is_left_as_it_is(tmp_path: Path) -> None:
    bodies = read(render.render("example", tmp_path))
    texts = [text for b in bodies if b["kind"] == "ConfigMap" for text in b["data"].values()]
    assert "one\ntwo\n" in texts


@pytest.mark.usefixtures("example")
def test_what_was_rendered_before_goes_and_what_was_not_rendered_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    render.render("example", out)
    (out / "configmap-gone.yaml").write_text("kind: ConfigMap")
    render.render("example", out)
    assert not (out / "configmap-gone.yaml").exists()
    (out / "precious.txt").write_text("mine")
    with pytest.raises(ToolchainError, match="has other files"):
        render.render("example", out)
    assert (out / "precious.txt").read_text() == "mine"


@pytest.mark.usefixtures("example")
def test_the_environment_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [p.read_text() for p in render.render("example", tmp_path)]
    monkeypatch.setenv("KUBECONTEXT", "mine")
    monkeypatch.chdir("/")
    assert [p.read_text() for p in render.render("example", tmp_path)] == before
    assert Path.cwd() == Path("/")


@pytest.mark.usefixtures("example")
def test_a_composition_that_is_not_there_is_an_error_to_read(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"exampel: .*did you mean example"):
        render.render("exampel", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_configuration_is_read_as_the_engine_gives_it(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.x.yaml").write_text(
        "config:\n"
        "  dds:shards: 4\n"
        "  dds:persistence: true\n"
        '  dds:images: ["a=b:1"]\n'
        "  dds:role: store\n"
        "  other:password:\n"
        "    secure: abc\n"
    )
    assert render.configuration(tmp_path, "x") == {
        "dds:shards": "4",
        "dds:persistence": "true",
        "dds:images": '["a=b:1"]',
        "dds:role": "store",
        "other:password": "redacted",
    }
    assert render.configuration(tmp_path, "y") == {}


OF_DOCKER = {"cluster", "topz"}
"""Compositions that have containers and no manifests."""


@pytest.mark.parametrize("name", [name for name in stacks.COMPOSITIONS if name not in OF_DOCKER])
def test_every_composition_renders_to_valid_manifests(name: str, tmp_path: Path) -> None:
    bodies = read(render.render(name, tmp_path))
    assert_valid(bodies)
    assert bodies[0]["kind"] == "Namespace"


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert render.main(["--stack", "ambassadors", "--out", str(tmp_path)]) == 0
    assert "objects in" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["y", "N", "1e3", "0o7", "0b1", "1_000", "12", "1.5", "+3"])
def test_a_text_that_looks_like_another_type_is_quoted(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(_: Settings) -> None:
        ConfigMap("odd", metadata={"name": "odd", "namespace": "default"}, data={"key": text})

    monkeypatch.setattr(stacks, "COMPOSITIONS", {"odd": stacks.Composition(program)})
    (file,) = render.render("odd", tmp_path / "out")
    assert f"key: '{text}'" in file.read_text()
