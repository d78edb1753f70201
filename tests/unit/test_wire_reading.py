"""What a provider makes of the marks of the engine, and of mistakes in another language."""

from collections.abc import Mapping
from typing import Any

import pulumi
import pytest
from google.protobuf import struct_pb2
from pulumi.resource import DependencyResource

from dds_patterns import Application, Companion, Reach, ShardedRedis
from dds_patterns.arguments import InputError
from dds_patterns.arguments.place import DEFERRED
from dds_patterns.pods.companion import Listener
from dds_patterns.values.reach import Credentials
from dds_patterns.wire import from_wire, to_wire
from dds_patterns.wire.host import constructed, state
from dds_patterns.wire.leaf import Leaf, decoded
from dds_patterns.wire.messages import in_camel_case
from tests.unit.support.examples import IMAGE
from toolchain.graph import Graph, build

# As in sdk/go/common/resource/properties.go.
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
REFERENCE = "5cf8f73096256a8f31e491e813e4eb8e"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
URN = "urn:pulumi:test::dds::kubernetes:core/v1:ConfigMap::other"


def secret(value: Any) -> dict[str, Any]:
    return {SIGNATURE: SECRET, "value": value}


def output(*urns: str, **more: Any) -> dict[str, Any]:
    return {SIGNATURE: OUTPUT, "dependencies": list(urns), **more}


def received(inputs: Mapping[str, Any], **dependencies: str) -> dict[str, Any]:
    struct = struct_pb2.Struct()
    struct.update(inputs)
    return decoded(struct, {key: frozenset([urn]) for key, urn in dependencies.items()})


ON_OTHER = frozenset([URN])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (3, 3),
        (2.5, 2.5),
        ("3", "3"),
        (True, True),
        (None, None),
        ({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "x"}]}),
        (UNKNOWN, Leaf(known=False)),
        (secret("x"), Leaf("x", secret=True)),
        (secret({"a": "x", "b": [secret("y")]}), {"a": Leaf("x", in_secret=True), "b": [Leaf("y", secret=True, in_secret=True)]}),
        (secret(UNKNOWN), Leaf(known=False, secret=True)),
        (output(URN, value=3), Leaf(3, dependencies=ON_OTHER)),
        (output(URN, value="x", secret=True), Leaf("x", secret=True, dependencies=ON_OTHER)),
        (output(URN, value={"a": "x"}), {"a": Leaf("x", dependencies=ON_OTHER)}),
        # What the engine leaves out: the value of an unknown Output, and marks that it has not.
        (output(URN), Leaf(known=False, dependencies=ON_OTHER)),
        ({SIGNATURE: OUTPUT}, Leaf(known=False)),
        ({SIGNATURE: OUTPUT, "value": "x"}, "x"),
        ({SIGNATURE: REFERENCE, "urn": URN, "id": "x"}, URN),
    ],
)  # fmt: skip
def test_only_leaves_are_marked(given: Any, expected: Any) -> None:
    assert received({"key": given}) == {"key": expected}
    assert isinstance(received({"key": 3})["key"], int)


def test_an_input_has_the_dependencies_that_the_engine_lists() -> None:
    assert received({"a": {"b": 1}, "c": 2}, a=URN) == {
        "a": {"b": Leaf(1, dependencies=ON_OTHER)},
        "c": 2,
    }


def test_keys_have_an_order_of_their_own() -> None:
    assert list(received({"key": {"b": 1, "a": 2, "c": 3}})["key"]) == ["a", "b", "c"]


def application(**inputs: Any) -> Graph:
    return build(
        lambda: constructed(Application, "it", received({"image": IMAGE, **inputs})), preview=True
    )


def test_a_plain_value_of_another_resource_is_known_and_waits_for_it() -> None:
    graph = application(application=output(URN, value="shop"))
    labels = graph.one("Deployment").inputs["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "shop"
    assert graph.one("dds:index:Application").dependencies == (URN,)


def test_an_unknown_value_passes_where_an_output_may_stand() -> None:
    spec = application(image=output(URN)).one("Deployment").inputs["spec"]["template"]["spec"]
    assert isinstance(spec["containers"][0]["image"], pulumi.output.Unknown)


def test_secrets_stay_secret() -> None:
    graph = application(secretFiles={"/etc/it/password": secret("swordfish")})
    held = graph.one("Secret")
    assert "swordfish" in str(held.inputs)
    assert held.secrets == {"stringData"}
    others = [node.inputs for node in graph if node.type != held.type]
    assert "swordfish" not in str(others)


def ambassador() -> Companion:
    store = Reach(
        "store",
        ("store.here.svc:6379",),
        pods={"app": "store"},
        app_protocol="redis",
        credentials=Credentials(pulumi.Output.secret("swordfish-long"), "client"),
        depends_on=(DependencyResource(URN),),
    )
    return Companion(
        "proxy",
        ({"name": "proxy", "image": IMAGE, "env": [{"name": "A", "value": "1"}]},),
        listeners=(Listener(6379, "redis", "127.0.0.1"),),
        volumes=({"name": "data", "empty_dir": {"size_limit": "16Mi"}},),
        reaches=(store,),
    )


def test_what_is_declared_a_secret_is_one_on_the_wire() -> None:
    def program() -> None:
        pulumi.export("password", to_wire(Credentials("swordfish"))["password"])

    assert build(program).output_secrets[""] == {"password"}


def test_an_object_that_an_sdk_made_secret_as_a_whole_keeps_its_own_secrets_only() -> None:
    plain = {
        "name": "proxy",
        "containers": [{"name": "proxy", "image": IMAGE, "env": [{"name": "A", "value": "1"}]}],
        "listeners": [{"port": 6379, "name": "redis", "address": "127.0.0.1"}],
        "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "16Mi"}}],
        "reaches": [
            {
                "name": "store",
                "endpoints": ["store.here.svc:6379"],
                "pods": {"app": "store"},
                "ports": [6379],
                "appProtocol": "redis",
                "credentials": {"password": "swordfish-long", "username": "client"},
                "dependsOn": [URN],
            }
        ],
    }
    found: list[Any] = []

    def program() -> None:
        wire = to_wire(ambassador())
        wire["reaches"][0]["credentials"]["password"].apply(found.append)
        wire["reaches"][0]["dependsOn"][0].apply(found.append)
        constructed(Application, "it", received({"image": IMAGE, "companions": [secret(plain)]}))

    def in_python() -> None:
        Application("it", {"image": IMAGE, "companions": [ambassador()]})

    there, here = build(program), build(in_python)
    assert found == ["swordfish-long", URN]
    assert [(n.urn, n.inputs, n.dependencies) for n in there] == [
        (n.urn, n.inputs, n.dependencies) for n in here
    ]
    assert URN in there.one("Deployment").dependencies


def test_a_value_has_its_shape_in_a_preview_and_is_secret_as_a_whole() -> None:
    def program() -> None:
        store = ShardedRedis("store", {"image": IMAGE, "shards": 2, "role": "cache"})
        for key, value in state(store).items():
            pulumi.export(key, value)

    graph = build(program, preview=True)
    given = graph.outputs[""]
    assert given["reach"]["credentials"] == {"password": DEFERRED}
    assert given["reach"]["topology"]["shards"] == given["plan"]["names"]
    # An output by itself is unknown, as every other.
    assert isinstance(given["password"], pulumi.output.Unknown)
    assert graph.output_secrets[""] >= {"reach", "password"}
    assert received({"key": DEFERRED}) == {"key": Leaf(known=False)}


def companion_with(variable: dict[str, Any]) -> dict[str, Any]:
    return {"name": "x", "containers": [{"name": "x", "image": IMAGE, "env": [variable]}]}


def refusal(**inputs: Any) -> str:
    with pytest.raises(InputError) as refused:
        application(**inputs)
    return in_camel_case(refused.value)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"replica": 3}, "replica is not an argument; did you mean replicas?"),
        ({"secret_files": {}}, "secret_files is not an argument; did you mean secretFiles?"),
        (
            {"hosting": {"nodeSelektor": {}}},
            "hosting.nodeSelektor is not an argument; did you mean nodeSelector?",
        ),
        (
            {"companions": [{"name": "x", "kontainers": []}]},
            "companions[0].kontainers is not an argument; did you mean containers?",
        ),
        ({"companions": [{"name": "x"}]}, "companions[0].containers is missing"),
        ({"companions": ["proxy"]}, "companions[0] is 'proxy'; must be a Companion"),
        (
            {"ports": [{"name": "http", "port": 8080, "servicePort": 0}]},
            "ports[0].servicePort is 0; must be",
        ),
        (
            {"application": secret("x")},
            "application is <secret>; must not be a secret",
        ),
        ({"application": output(URN)}, "application is <known only later>; must be a plain value"),
        ({"companions": UNKNOWN}, "companions is <known only later>; must be a plain value"),
        ({"env": {"A": secret("x")}}, "env[A] is <secret>; must not be a secret"),
        # What is secret by itself is one in a value as well.
        (
            {"companions": [companion_with({"name": "A", "value": secret("x")})]},
            "is <secret>; must not be a secret",
        ),
        (
            {"companions": secret([{"name": secret("x"), "containers": []}])},
            "companions[0].name is <secret>; must not be a secret",
        ),
        ({"hosting": {"nodeSelector": "x"}}, "hosting.nodeSelector is 'x'; must be a mapping"),
        (
            {"companions": [{"name": "x", "containers": [{"nme": "x"}]}]},
            "containers[0].nme is not an argument",
        ),
    ],
)
def test_a_mistake_is_told_in_the_spelling_of_the_wire(inputs: Any, message: str) -> None:
    assert message in refusal(**inputs)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Reach, {"name": "store", "endpoint": []}, "did you mean endpoints?"),
        (Reach, {"name": "store"}, "Reach: endpoints is missing"),
        (Reach, {"name": "store", "endpoints": ["store"]}, 'Reach "store": endpoints[0] is'),
    ],
)
def test_a_value_that_is_invalid_is_refused(kind: type, value: Any, message: str) -> None:
    with pytest.raises(InputError) as refused:
        from_wire(kind, value)
    assert message in str(refused.value)
