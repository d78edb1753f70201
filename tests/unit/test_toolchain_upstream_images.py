"""Upstream images: made of the tools once, made again for other tools, never in place of a pull."""

import tarfile
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from toolchain import builds, paths, upstream_images
from toolchain.upstream_images import ETCD, NATS, UpstreamImage


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


def tools(image: UpstreamImage, folder: Path, mark: str) -> dict[str, Path]:
    found = {}
    for tool in image.tools:
        found[tool] = folder / f"{tool}-{mark}" / "bin"
        found[tool].mkdir(parents=True)
        for program in builds.TOOLS[tool].programs:
            (found[tool] / program).write_text(f"{program} {mark}")
    return found


every_image = pytest.mark.parametrize("image", upstream_images.IMAGES, ids=["etcd", "nats"])


@every_image
def test_it_is_made_of_the_tools_and_once(image: UpstreamImage, tmp_path: Path) -> None:
    client: Any = Client()
    built = tools(image, tmp_path, "a")
    for _ in range(2):
        assert image.ensure(client, built) == image.reference
    ((name, files),) = client.images.built
    assert name == image.reference
    assert set(files) == {"Dockerfile", *image.programs}
    assert files[image.programs[0]] == f"{image.programs[0]} a".encode()
    # Its programs are found by their names, as in the upstream one.
    assert f"ENV PATH={image.folder}" in files["Dockerfile"].decode().splitlines()
    assert image.folder.startswith("/")


@every_image
def test_other_tools_are_another_image(image: UpstreamImage, tmp_path: Path) -> None:
    client: Any = Client()
    for mark in ("a", "b"):
        image.ensure(client, tools(image, tmp_path, mark))
    assert len(client.images.built) == 2


@every_image
def test_one_that_was_pulled_stays(image: UpstreamImage, tmp_path: Path) -> None:
    client: Any = Client()
    client.images.labels[image.reference] = {}
    image.ensure(client, tools(image, tmp_path, "a"))
    assert client.images.built == []


@pytest.mark.parametrize("tool", ETCD.tools)
def test_the_version_is_that_of_the_pin(tool: str) -> None:
    version = ETCD.version(tool)
    text = (builds.TOOLS[tool].folder / "go.mod").read_text()
    assert f"go.etcd.io/etcd/api/v3 v{version}" in text
    assert ETCD.reference == f"gcr.io/etcd-development/etcd:v{version}"


def test_the_image_of_the_bus_takes_its_server_from_the_one_that_is_pinned() -> None:
    dockerfile = (paths.ROOT / "images" / "nats" / "Dockerfile").read_text()
    assert f"ARG NATS={NATS.reference}\n" in dockerfile
    assert f"COPY --from=nats {NATS.folder}{NATS.programs[0]} " in dockerfile
