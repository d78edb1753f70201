"""Which image a program runs: the component's argument, that of the program's name, or upstream's."""

from pathlib import Path
from typing import Any

import pytest

from dds_patterns import Application, Companion, InputError, Topz
from dds_patterns.arguments.declared import read
from dds_patterns.arguments.engine import resolved_value
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.place import Place
from dds_patterns.pods.images import PROGRAMS
from tests.unit.support.examples import EVERY, IMAGE, Example
from tests.unit.support.manifests import templates
from toolchain.graph import Graph, build
from toolchain.reference import programs_of
from toolchain.upstream_images import NATS

FOLDERS = Path(__file__).parents[2] / "images"
OWN = {name: f"registry.example/own/{name}:2.0" for name in PROGRAMS}
WITH_PROGRAMS = {name: each for name, each in EVERY.items() if programs_of(each.declaration)}
every_with_programs = pytest.mark.parametrize(
    "example", WITH_PROGRAMS.values(), ids=WITH_PROGRAMS.keys()
)


def made(example: Example, **more: Any) -> Graph:
    """What it registers with the required arguments only, without the images among them."""
    programs = programs_of(example.declaration)
    args = {key: value for key, value in example.required.items() if key not in programs}

    def program() -> None:
        component = example.make("one", {**args, **more})
        if isinstance(companion := getattr(component, "companion", None), Companion):
            Application("host", {"image": "registry.example/host:1", "companions": [companion]})

    return build(program)


def images(graph: Graph) -> set[str]:
    """All that pods run, but for the pod that companions are shown in."""
    containers = [
        container["image"]
        for template in templates(graph)
        for part in ("containers", "initContainers")
        for container in template["spec"].get(part, [])
    ]
    return {*containers} - {"registry.example/host:1"}


@every_with_programs
def test_it_runs_the_images_of_its_programs(example: Example) -> None:
    programs = set(programs_of(example.declaration).values())
    found = images(made(example, hosting={"images": OWN}))
    assert found == {OWN[name] for name in programs}


@every_with_programs
def test_its_own_argument_is_stronger(example: Example) -> None:
    given = dict.fromkeys(programs_of(example.declaration), IMAGE)
    assert images(made(example, hosting={"images": OWN}, **given)) == {IMAGE}


@every_with_programs
def test_without_any_it_runs_upstreams_or_says_what_to_give(example: Example) -> None:
    programs = programs_of(example.declaration)
    for argument, name in programs.items():
        others = {key: "registry.example/other:1" for key in programs if key != argument}
        if upstream := PROGRAMS[name]:
            assert images(made(example, **others)) == {upstream, *others.values()}
        elif argument == "tools_image" and "image" in programs and name == programs["image"]:
            # One image has both.
            assert images(made(example, **others)) == {*others.values()}
        else:
            with pytest.raises(InputError) as refused:
                made(example, **others)
            assert f': {argument} is missing; it must be given, or hosting.images["{name}"]' in (
                str(refused.value)
            )


def test_upstream_images_are_pinned_and_those_that_are_tested() -> None:
    for name, reference in PROGRAMS.items():
        assert (FOLDERS / name / "Dockerfile").is_file()
        if reference is not None:
            # In full, since not every node completes a name.
            assert "." in reference.partition("/")[0]
            resolved_value(Place(name), read(Image), reference)
    assert PROGRAMS["nats"] == f"docker.io/library/{NATS.reference}"


@pytest.mark.parametrize("name", ["elektor", "reddis", "companion", "nat", "redis_exporter"])
def test_a_misspelt_program_is_refused(name: str) -> None:
    with pytest.raises(
        InputError, match=rf"hosting.images \(a key\) is '{name}'; .*did you mean \w+"
    ):
        build(lambda: Topz("top", {"hosting": {"images": {name: IMAGE, "companions": IMAGE}}}))


def test_a_programs_own_images_may_be_there_too() -> None:
    """The images of a catalog are passed on as they are."""
    names = [*(path.parent.name for path in FOLDERS.glob("*/Dockerfile")), "web", "api", "worker"]
    build(lambda: Topz("top", {"hosting": {"images": dict.fromkeys(names, IMAGE)}}))


def test_etcds_tools_are_the_projects_where_the_server_is_upstreams() -> None:
    graph = made(EVERY["EtcdCluster"], image=IMAGE, hosting={"images": OWN})
    assert images(graph) == {IMAGE, OWN["etcd"]}
