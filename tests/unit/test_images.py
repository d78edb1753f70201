"""ImageCatalog: what is built, what is taken from elsewhere, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi
import pytest

from dds_patterns import ImageCatalog, ShardedRedis
from dds_patterns.arguments.errors import InputError
from tests.unit.support.manifests import templates
from toolchain.graph import Graph, build

ROOT = Path(__file__).parents[2]
DIGEST = "valkey/valkey@sha256:" + "a" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("redis", "twemproxy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "notes").mkdir()
    return tmp_path


def made(folder: Path | None, preview: bool = False, **more: Any) -> Graph:
    def program() -> None:
        args: Any = {"registry": "localhost:20000", "names": ["redis", "twemproxy"], **more}
        if folder is not None:
            args["folder"] = str(folder)
        catalog = ImageCatalog("images", args)
        assert list(catalog.images) == args["names"]
        for name in args["names"]:
            assert catalog.reference(name) is catalog.images[name]
            pulumi.export(name, catalog.reference(name))

    return build(program, preview=preview)


@pytest.mark.parametrize("preview", [False, True])
def test_one_image_a_folder_pushed_to_the_registry(folder: Path, preview: bool) -> None:
    graph = made(folder, preview)
    images = {node.name: node for node in graph.all("docker:index/image:Image")}
    assert set(images) == {"images-redis", "images-twemproxy"}
    redis = images["images-redis"]
    assert redis.inputs["imageName"] == "localhost:20000/dds/redis:current"
    assert redis.inputs["build"] == {
        "context": str(folder / "redis"), "dockerfile": str(folder / "redis" / "Dockerfile"),
    }  # fmt: skip
    assert not redis.inputs.get("skipPush")
    assert {node.parent for node in images.values()} == {graph.one("ImageCatalog").urn}


def test_references_are_by_digest(folder: Path) -> None:
    graph = made(folder)
    reference = graph.outputs[""]["redis"]
    assert reference.startswith("localhost:20000/dds/redis@sha256:")
    assert graph.outputs[""]["twemproxy"] != reference


def test_an_override_takes_the_place_of_a_build(folder: Path) -> None:
    graph = made(folder, overrides={"redis": DIGEST})
    assert [node.name for node in graph.all("Image")] == ["images-twemproxy"]
    assert graph.outputs[""]["redis"] == DIGEST


def test_an_override_that_nobody_asked_for_builds_nothing(folder: Path) -> None:
    graph = made(folder, names=["twemproxy"], overrides={"redis": DIGEST})
    assert [node.name for node in graph.all("Image")] == ["images-twemproxy"]


def test_without_a_registry_there_is_what_is_built_elsewhere(folder: Path) -> None:
    graph = made(folder, registry=None, names=["redis"], overrides={"redis": DIGEST})
    assert graph.all("Image") == []
    assert graph.outputs[""]["redis"] == DIGEST


def test_the_base_is_a_build_argument(folder: Path) -> None:
    graph = made(folder, base="debian:bookworm-slim")
    for node in graph.all("Image"):
        assert node.inputs["build"]["args"] == {"BASE": "debian:bookworm-slim"}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (
            {"names": ["radis"]},
            r"names\[0\] is 'radis'; did you mean redis\? known are redis, twem",
        ),
        ({"names": ["notes"]}, "notes"),
        ({"names": ["redis", "redis"]}, "unique"),
        ({"registry": None}, "registry is None; must be given: redis is built"),
        ({"folder": "elsewhere"}, r"names\[0\] is 'redis'; known are none"),
        ({"overrides": {"redis": "valkey/valkey"}}, r"overrides\[redis\].*tag other than latest"),
        ({"overrides": {"radis": DIGEST}}, "no image radis to replace: did you mean redis"),
        ({"folders": "x"}, "did you mean folder"),
    ],
)
def test_bad_input_is_refused_before_anything_is_registered(
    folder: Path, more: dict[str, Any], text: str
) -> None:
    refused: list[str] = []

    def program() -> None:
        args = {"registry": "localhost:1", "names": ["redis"], "folder": str(folder), **more}
        with pytest.raises(InputError, match=text):
            ImageCatalog("images", args)  # type: ignore[arg-type]
        refused.append("yes")

    assert not list(build(program))
    assert refused == ["yes"]


def test_a_name_that_was_not_asked_for_is_refused(folder: Path) -> None:
    refused: list[str] = []

    def program() -> None:
        catalog = ImageCatalog(
            "images", {"registry": "localhost:1", "names": ["redis"], "folder": str(folder)}
        )
        with pytest.raises(InputError, match="'rediss'; did you mean redis"):
            catalog.reference("rediss")
        refused.append("yes")

    build(program)
    assert refused == ["yes"]


@pytest.mark.parametrize("program", [ROOT, ROOT / "docs"])
def test_the_projects_own_folders_are_the_default(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(program)
    names = ["redis", "registry", "toolbox", "twemproxy"]
    images = made(None, names=names).all("Image")
    # Relative below the program: then the state is the same on every machine.
    folder = Path("images") if program == ROOT else ROOT / "images"
    assert [node.inputs["build"]["context"] for node in images] == [
        str(folder / name) for name in names
    ]


def test_its_images_are_what_components_run(folder: Path) -> None:
    def program() -> None:
        args: Any = {"registry": "localhost:1", "names": ["redis"], "folder": str(folder)}
        images = ImageCatalog("images", args).images
        ShardedRedis("cache", {"shards": 1, "hosting": {"images": images}})

    graph = build(program)
    (template,) = templates(graph)
    digest = graph.one("docker:index/image:Image").outputs["repoDigest"]
    assert template["spec"]["containers"][0]["image"] == digest
