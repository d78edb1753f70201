"""The image of etcd: made of the tools once, made again for other tools, never in place of a pull."""

import tarfile
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from toolchain import builds, etcd_image


class Images:
    """The daemon's images, by name."""

    def __init__(self) -> None:
        self.labels: dict[str, dict[str, str]] = {}
        self.built: list[tuple[str, dict[str, bytes]]] = []

    def get(self, name: str) -> Any:
        if name not in self.labels:
            raise docker.errors.ImageNotFound(name)
        return type("Image", (), {"labels": self.labels[name]})

    def build(self, *, fileobj: Any, tag: str, **_: Any) -> None:
        with tarfile.open(fileobj=fileobj) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
        self.built.append((tag, files))
        (label,) = [
            line.partition("=")[2].strip('"')
            for line in files["Dockerfile"].decode().splitlines()
            if line.startswith("LABEL dds.pin=")
        ]
        self.labels[tag] = {"dds.pin": label}


class Client:
    def __init__(self) -> None:
        self.images = Images()


def tools(folder: Path, mark: str) -> dict[str, Path]:
    found = {}
    for tool in etcd_image.TOOLS:
        found[tool] = folder / f"{tool}-{mark}" / "bin"
        found[tool].mkdir(parents=True)
        for program in builds.TOOLS[tool].programs:
            (found[tool] / program).write_text(f"{program} {mark}")
    return found


def test_it_is_made_of_the_tools_and_once(tmp_path: Path) -> None:
    client: Any = Client()
    built = tools(tmp_path, "a")
    for _ in range(2):
        assert etcd_image.ensure(client, built) == etcd_image.reference()
    ((name, files),) = client.images.built
    assert name == etcd_image.reference()
    assert set(files) == {"Dockerfile", "etcd", "etcdctl", "etcdutl"}
    assert files["etcdutl"] == b"etcdutl a"


def test_other_tools_are_another_image(tmp_path: Path) -> None:
    client: Any = Client()
    for mark in ("a", "b"):
        etcd_image.ensure(client, tools(tmp_path, mark))
    assert len(client.images.built) == 2


def test_one_that_was_pulled_stays(tmp_path: Path) -> None:
    client: Any = Client()
    client.images.labels[etcd_image.reference()] = {}
    etcd_image.ensure(client, tools(tmp_path, "a"))
    assert client.images.built == []


@pytest.mark.parametrize("tool", etcd_image.TOOLS)
def test_the_version_is_that_of_the_pin(tool: str) -> None:
    version = etcd_image.version(tool)
    assert f"go.etcd.io/etcd/api/v3 {version}" in (builds.TOOLS[tool].folder / "go.mod").read_text()
    assert version.startswith("v3.6.")
