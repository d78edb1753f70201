"""A build's folder in the cache changes with everything that decides what comes out, and only then."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import pytest

from toolchain import builds, cache, images, paths
from toolchain.builds import GoTool
from toolchain.errors import ToolchainError


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GoTool:
    monkeypatch.setattr(builds, "SOURCES", tmp_path)
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "go.mod").write_text("module x\n")
    (folder / "go.sum").write_text("sum\n")
    return GoTool("x", {"x": "example.test/x"})


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "main.go", "other.go"])
def test_a_changed_source_changes_the_pin(tool: GoTool, name: str) -> None:
    before = builds.pin(tool, "go1.26")
    with (tool.folder / name).open("a") as file:
        file.write("// changed\n")
    assert builds.pin(tool, "go1.26") != before


def test_what_does_not_reach_the_program_leaves_the_pin(tool: GoTool) -> None:
    before = builds.pin(tool, "go1.26")
    (tool.folder / "README.md").write_text("text")
    (tool.folder / "x_test.go").write_text("package x")
    assert builds.pin(tool, "go1.26") == before


def test_a_module_of_ours_inside_and_what_is_embedded_change_the_pin(tool: GoTool) -> None:
    pins = {builds.pin(tool, "go1.26")}
    (tool.folder / "sdk").mkdir()
    (tool.folder / "sdk" / "types.go").write_text("package sdk\n")
    pins.add(builds.pin(tool, "go1.26"))
    embedding = dataclasses.replace(tool, module="example.test/m", embedded=("a.json",))
    pins.add(builds.pin(embedding, "go1.26"))
    pins.add(builds.pin(dataclasses.replace(embedding, patches=(PATCH,)), "go1.26"))
    assert len(pins) == 4


PATCH = builds.Patch("pkg/a.go", "\tb()\n", "\tif c {\n\t\treturn\n\t}\n")


def test_a_patched_module_takes_the_place_of_the_fetched_one(tool: GoTool, tmp_path: Path) -> None:
    module = tmp_path / "cache"
    (module / "pkg").mkdir(parents=True)
    (module / "pkg" / "a.go").write_text("func a() {\n\tb()\n}\n")
    (module / "pkg").chmod(0o555)
    patched = dataclasses.replace(tool, module="example.test/m", patches=(PATCH,))
    builds._patch(patched, module, tool.folder)
    text = (tool.folder / "patched" / "pkg" / "a.go").read_text()
    assert text == "func a() {\n\tif c {\n\t\treturn\n\t}\n\tb()\n}\n"
    assert "replace example.test/m => ./patched\n" in (tool.folder / "go.mod").read_text()
    assert (module / "pkg" / "a.go").read_text() == "func a() {\n\tb()\n}\n"


@pytest.mark.parametrize("text", ["func a() {}\n", "\tb()\n\tb()\n"])
def test_a_file_that_a_patch_is_not_for_ends_the_build(
    tool: GoTool, tmp_path: Path, text: str
) -> None:
    module = tmp_path / "cache"
    (module / "pkg").mkdir(parents=True)
    (module / "pkg" / "a.go").write_text(text)
    patched = dataclasses.replace(tool, module="example.test/m", patches=(PATCH,))
    with pytest.raises(ToolchainError, match="check whether the pinned version still needs it"):
        builds._patch(patched, module, tool.folder)


def test_flags_programs_and_go_change_the_pin(tool: GoTool) -> None:
    changed = [
        dataclasses.replace(tool, link=("-X a=b",)),
        dataclasses.replace(tool, programs={"y": "example.test/x"}),
    ]
    pins = {builds.pin(tool, "go1.26"), builds.pin(tool, "go1.27")}
    pins |= {builds.pin(other, "go1.26") for other in changed}
    assert len(pins) == 4


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("go.etcd.io/etcd/server/v3", "server"),
        ("go.etcd.io/etcd/etcdctl/v3", "etcdctl"),
        ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
        ("example.test/v2ray", "v2ray"),
        (".", "module"),
    ],
)
def test_the_name_that_go_build_gives(package: str, name: str) -> None:
    assert builds.go_name(package, "module") == name


def test_every_tool_has_its_pins() -> None:
    for tool in builds.TOOLS.values():
        assert (tool.folder / "go.mod").is_file(), tool.name
        for package in tool.programs.values():
            main = tool.folder / "main.go" if package == "." else tool.folder / "go.sum"
            assert main.is_file(), tool.name


def test_the_pinned_version_is_the_linked_one() -> None:
    requirement = f"github.com/pulumi/pulumi/pkg/v3 v{builds.PULUMI_VERSION}"
    assert requirement in (builds.TOOLS["pulumi"].folder / "go.mod").read_text()
    # Of the provider's module there are commits only, so the release is said with the pin.
    linked = f"version.Version=v{builds.KUBERNETES_PROVIDER_VERSION}"
    assert any(one.endswith(linked) for one in builds.TOOLS["kubernetes-provider"].link)
    # The SDK of another version makes the engine warn, and look for a provider of that one.
    pinned = (paths.ROOT / "requirements.txt").read_text().splitlines()
    assert f"pulumi_kubernetes=={builds.KUBERNETES_PROVIDER_VERSION}" in pinned
    requirement = f"github.com/pulumi/pulumi-yaml v{builds.YAML_VERSION}"
    assert requirement in (builds.TOOLS["language-yaml"].folder / "go.mod").read_text()
    requirement = f"k8s.io/kubernetes v{builds.KUBERNETES_VERSION}"
    assert requirement in (builds.TOOLS["kubernetes"].folder / "go.mod").read_text()


def test_made_once_by_two_at_the_same_time(tmp_path: Path) -> None:
    made = []

    def make(part: Path) -> None:
        made.append(part)
        (part / "file").write_text("whole")

    final = tmp_path / "thing"
    threads = [
        threading.Thread(target=cache.made_once, args=(final, "test", make)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (final / "file").read_text() == "whole"


def test_a_failed_make_leaves_nothing_and_the_next_one_succeeds(tmp_path: Path) -> None:
    final = tmp_path / "thing"

    def fail(part: Path) -> None:
        (part / "half").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.made_once(final, "test", fail)
    assert not final.exists()
    # What a killed run leaves, which no `except` could clean.
    (tmp_path / ".thing.part-killed").mkdir()
    cache.made_once(final, "test", lambda part: (part / "whole").touch())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".thing.lock", "thing"]


def test_the_hash_of_an_image_folder(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:bookworm-slim\n")
    hashes = [images.folder_hash(tmp_path, "base")]
    hashes.append(images.folder_hash(tmp_path, "other base"))
    (tmp_path / "run").write_text("x")
    hashes.append(images.folder_hash(tmp_path, "base"))
    (tmp_path / "run").chmod(0o755)
    hashes.append(images.folder_hash(tmp_path, "base"))
    assert len(set(hashes)) == len(hashes)
    os.utime(tmp_path / "run", (1, 1))
    assert images.folder_hash(tmp_path, "base") == hashes[-1]
