"""What holds for every component alike."""

import functools
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import pytest

from dds_patterns.arguments.errors import InputError
from tests.unit.support.examples import EXAMPLES, WORKLOADS, Example
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates
from toolchain.graph import Graph, build

MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
CONTENTS = ["required", "full"]


@functools.cache
def made(example: Example, content: str = "required", *, preview: bool = False) -> Graph:
    return build(lambda: example.make("one", _args(example, content)), preview=preview)


def _args(example: Example, content: str) -> dict[str, Any]:
    return example.full() if content == "full" else dict(example.required)


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_is_registered_under_its_token_with_all_below_it(
    example: Example, content: str, preview: bool
) -> None:
    graph = made(example, content, preview=preview)
    component = graph.one(example.token, "one")
    assert component.parent == ""
    for node in graph:
        if node is component:
            continue
        parent = node.parent
        while parent != component.urn:
            parent = graph.nodes[parent].parent
    if component.custom:
        assert list(graph) == [component]
    else:
        assert len(graph.nodes) > 2
        assert component.urn in graph.outputs, "register_outputs was not called"


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("example", WORKLOADS.values(), ids=WORKLOADS.keys())
def test_objects_follow_their_schemas_strictly(example: Example, content: str) -> None:
    assert_valid(objects(made(example, content)))


def test_the_schema_check_refuses_an_unknown_key() -> None:
    (body,) = objects(made(EXAMPLES["Application"]), "Deployment")
    body["spec"]["template"]["spec"]["containers"][0]["imagePulPolicy"] = "Always"
    with pytest.raises(Exception, match="imagePulPolicy"):
        assert_valid([body])


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("example", WORKLOADS.values(), ids=WORKLOADS.keys())
def test_pods_are_hardened(example: Example, content: str) -> None:
    graph = made(example, content)
    for template in templates(graph):
        found = violations(
            template,
            restarts=bool(graph.all("Deployment") + graph.all("StatefulSet")),
            init_containers=("first", "second"),
        )
        assert set(found) <= example.meant


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_two_stand_side_by_side(example: Example, preview: bool) -> None:
    def program() -> None:
        example.make("one", _args(example, "full"))
        example.make("two", _args(example, "full"))

    graph = build(program, preview=preview)
    names = [(body["kind"], body["metadata"]["name"]) for body in objects(graph)]
    assert len(names) == len(set(names))
    # What both reach is told twice.
    selectors = [
        str(body["spec"]["podSelector"]["matchLabels"])
        for body in objects(graph, "NetworkPolicy")
        if "Egress" in body["spec"]["policyTypes"]
    ]
    assert len(selectors) == len(set(selectors))


@pytest.mark.parametrize("example", WORKLOADS.values(), ids=WORKLOADS.keys())
def test_children_use_the_provider_of_the_component(example: Example) -> None:
    def program() -> None:
        provider = kubernetes.Provider("elsewhere", context="elsewhere")
        example.make("one", _args(example, "full"), providers=[provider])

    graph = build(program)
    reference = graph.one("pulumi:providers:kubernetes").urn
    for node in graph:
        if node.type.startswith("kubernetes:"):
            assert node.provider.startswith(reference)


@pytest.mark.parametrize("example", WORKLOADS.values(), ids=WORKLOADS.keys())
def test_a_consumers_alias_stays_with_the_component(example: Example) -> None:
    graph = build(
        lambda: example.make(
            "one", _args(example, "required"), aliases=[pulumi.Alias(name="former")]
        )
    )
    component = graph.one(example.token)
    assert len(component.aliases) == 1
    for node in graph.children(component):
        assert "former" not in str(node.aliases)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("example", WORKLOADS.values(), ids=WORKLOADS.keys())
def test_secrets_are_in_secrets_only(example: Example, content: str) -> None:
    graph = made(example, content)
    for node in graph:
        if node.type.endswith(":Secret"):
            assert node.secrets, f"{node.urn} is readable in the state"
        else:
            assert "swordfish" not in str(node.inputs)
            assert not node.secrets
    if content == "full":
        secrets = graph.all("kubernetes:core/v1:Secret")
        assert secrets
        assert all("swordfish" in str(secret.inputs) for secret in secrets)


@pytest.mark.parametrize("example", WORKLOADS.values(), ids=WORKLOADS.keys())
def test_a_file_that_would_hide_the_images_own_is_refused(example: Example) -> None:
    args = {**example.required, "secret_files": {"/etc/passwd": "x"}}

    def program() -> None:
        with pytest.raises(InputError, match="must be in a folder of its own"):
            example.make("one", args)

    assert not build(program).nodes, "something was registered before the refusal"


def test_an_image_that_is_known_later_is_checked_later() -> None:
    example = EXAMPLES["Application"]
    with pytest.raises(InputError, match="must have a tag"):
        build(lambda: example.make("one", {"image": pulumi.Output.from_input("redis")}))
