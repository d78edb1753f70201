"""The engine and the named types: what is accepted, and what is said of the rest."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import pulumi
import pytest
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    ContainerPortArgsDict,
    EmptyDirVolumeSourceArgsDict,
    EnvVarArgsDict,
    VolumeArgsDict,
    VolumeMountArgsDict,
)

from dds_patterns.arguments import (
    DISTINCT,
    NOT_EMPTY,
    Default,
    InputError,
    Later,
    Secret,
    between,
    matching,
    one_of,
    resolved,
)
from dds_patterns.arguments.addresses import Endpoint, Host, IpAddress, Network, url
from dds_patterns.arguments.containers import SHAPES, EnvName
from dds_patterns.arguments.cron import Schedule
from dds_patterns.arguments.declared import Declared, arguments_of, read
from dds_patterns.arguments.engine import resolved_value
from dds_patterns.arguments.files import MountPath
from dds_patterns.arguments.images import Image, Registry
from dds_patterns.arguments.names import DnsLabel, LabelKey, LabelValue, PortName, check_name
from dds_patterns.arguments.place import Place
from dds_patterns.arguments.quantities import Cpu, Memory, Resources, VolumeSize, amount
from tests.unit.support.examples import EVERY
from tests.unit.support.odd import arguments, odd_values
from toolchain.graph import build

WHERE = 'Store "one"'
HttpUrl = Annotated[str, url("http", "https")]


class PortArgs(TypedDict):
    name: str
    port: Annotated[int, between(1, 65535)]
    protocol: NotRequired[Annotated[str, one_of("TCP", "UDP"), Default("TCP")]]


class StoreArgs(TypedDict):
    image: Later[Image]
    shards: NotRequired[Annotated[int, between(1, 64), Default(3)]]
    share: NotRequired[float]
    durable: NotRequired[bool]
    ports: NotRequired[Annotated[Sequence[PortArgs], Default(())]]
    folders: NotRequired[Annotated[Sequence[str], DISTINCT, NOT_EMPTY]]
    env: NotRequired[Mapping[str, Later[str]]]
    word: NotRequired[Annotated[str, matching("[a-z]*", "lower-case letters", most=5)]]
    password: NotRequired[Secret[Annotated[str, matching("[a-z]{8,}", "eight letters")]]]


def store(**args: Any) -> dict[str, Any]:
    return dict(resolved(WHERE, StoreArgs, {"image": "a:1", **args}))


def test_defaults_are_filled_in_at_every_depth() -> None:
    assert store(ports=[{"name": "http", "port": 80.0}], share=50.0, shards=None) == {
        "image": "a:1",
        "shards": 3,
        "share": 50,
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }


def test_what_is_resolved_stays_what_it_is() -> None:
    once = store(ports=[{"name": "http", "port": 80}], env={"A": "b", "C": None})
    assert once["env"] == {"A": "b"}
    assert dict(resolved(WHERE, StoreArgs, once)) == once


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"shard": 3}, "shard is not an argument; did you mean shards? known are durable, env, "),
        ({"image": None}, "image is missing; required are image"),
        ({"ports": [{"name": "a"}]}, "ports[0].port is missing; required are name, port"),
        (
            {"ports": [{"name": "a", "prot": 1}]},
            "ports[0].prot is not an argument; did you mean port? known are name, port, protocol",
        ),
        ({"ports": [{"name": "a", "port": 0}]}, "ports[0].port is 0; must be from 1 to 65535"),
        ({"ports": {"name": "a"}}, "ports is {'name': 'a'}; must be a list"),
        ({"folders": "/a"}, "folders is '/a'; must be a list"),
        ({"folders": ["/a", "/b", "/a"]}, "folders is ['/a', '/b', '/a']; must be unique, '/a' "),
        ({"folders": []}, "folders is []; must not be empty"),
        ({"env": {"A": 1}}, "env[A] is 1; must be a string"),
        ({"env": {1: "a"}}, "env (a key) is 1; must be a string"),
        ({"durable": "false"}, "durable is 'false'; must be true or false"),
        ({"shards": True}, "shards is True; must be a whole number"),
        ({"share": float("nan")}, "share is nan; must be a finite number"),
        ({"word": "abcdef"}, "word is 'abcdef'; must have at most 5 characters, it has 6"),
        ({"word": "A"}, "word is 'A'; must be lower-case letters"),
        ({"password": "swordfish1"}, "password is <secret>; must be eight letters"),
    ],
)
def test_a_message_names_the_argument_the_value_and_what_would_be_right(
    args: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        store(**args)
    assert str(caught.value).startswith(f"{WHERE}: {message}")
    # Pulumi prints a RunError without a traceback.
    assert isinstance(caught.value, pulumi.RunError)


def test_arguments_are_a_mapping() -> None:
    with pytest.raises(InputError, match="must be a mapping as StoreArgs says"):
        resolved(WHERE, StoreArgs, [("image", "a:1")])


def test_an_output_is_checked_when_it_is_known() -> None:
    def program(image: str) -> None:
        store(image=pulumi.Output.from_input(image))

    build(lambda: program("a:1"))
    with pytest.raises(InputError, match="image is 'a'; must have a tag other than latest"):
        build(lambda: program("a"))


def test_a_secret_that_is_wrong_is_not_shown() -> None:
    with pytest.raises(InputError, match="password is <secret>; must be eight letters") as caught:
        build(lambda: store(password=pulumi.Output.secret("Swordfish")))
    assert "Swordfish" not in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        (Image, ["redis:7", "library/redis:7.0-bookworm", "localhost:5000/dds/redis:current"]),
        (Image, [f"localhost:5000/a/b@sha256:{'a' * 64}", f"redis:latest@sha256:{'0' * 64}"]),
        (Registry, ["localhost:5000", "registry.example/team/app", "127.0.0.1:20001"]),
        (DnsLabel, ["a", "a-1", "1", "a" * 63]),
        (LabelKey, ["a", "dds/scrapes", "app.kubernetes.io/name"]),
        (LabelValue, ["", "1.0", "a_b"]),
        (PortName, ["http", "h2-web", "a1"]),
        (EnvName, ["A", "_a", "a.b-c"]),
        (Cpu, ["1", "250m", "1.5"]),
        (Memory, ["64Mi", "1.5G", "4Mi"]),
        (VolumeSize, ["32Mi", "1Gi"]),
        (MountPath, ["/tmp", "/etc/app/a.conf", "/devices"]),
        (Schedule, ["17 3 * * *", "*/5 0-6 * JAN MON-FRI", "0 0 1,15 * ?"]),
        (Host, ["a", "db.example.com", "10.0.0.1", "[::1]", "db.example.com."]),
        (Endpoint, ["web:80", "web.shop.svc:8080", "[::1]:80", "10.0.0.1:1"]),
        (HttpUrl, ["http://web.shop.svc:8080/", "https://[::1]:8/x?y=z", "http://web"]),
        (IpAddress, ["127.0.0.1", "::1"]),
        (Network, ["203.0.113.0/24", "fd00::/8", "0.0.0.0/0"]),
        (
            Resources,
            [
                {"limits": {"cpu": "1", "memory": "64Mi", "hugepages-2Mi": "2Mi"}},
                {"requests": {"example.com/gpu": "1", "ephemeral-storage": "1Mi"}},
                {"limits": {"cpu": "none"}},
            ],
        ),
    ],
)
def test_what_is_right_is_accepted(declared: Any, values: list[Any]) -> None:
    for value in values:
        assert resolved_value(Place(WHERE, "it"), read(declared), value) == value


@pytest.mark.parametrize(
    ("quantity", "number"),
    [("1", 1), ("250m", 0.25), ("64Mi", 64 * 2**20), ("1.5G", 1.5e9), ("2k", 2000)],
)
def test_the_amount_of_a_quantity(quantity: str, number: float) -> None:
    assert amount(quantity) == pytest.approx(number)


def test_a_name_leaves_room_for_derived_ones() -> None:
    check_name(WHERE, "a" * 52, reserve=11)
    with pytest.raises(InputError, match="at most 52 characters, it has 53"):
        check_name(WHERE, "a" * 53, reserve=11)
    check_name(WHERE, "1web")
    with pytest.raises(InputError, match="must begin with a letter, as the name of a Service"):
        check_name(WHERE, "1web", service=True)
    check_name(WHERE, "web-0", service=True)
    for name in ("web", "web0", "web-v2", "web-0-a", "webr1", "web-r", "web-r1-a"):
        check_name(WHERE, name, service=True, replicated=True)
    for name in ("web-0", "web-10", "a-b-007", "web-r1", "web-r10"):
        with pytest.raises(InputError, match="must not end like -0 or -r1, which are"):
            check_name(WHERE, name, service=True, replicated=True)


SHAPED: dict[str, tuple[type, dict[str, Any]]] = {
    "ContainerArgsDict": (
        ContainerArgsDict,
        {
            "name": "a",
            "image": "a:1",
            "command": ["/a"],
            "args": ["b"],
            "resources": {"limits": {"cpu": "1"}},
        },
    ),
    "ContainerPortArgsDict": (ContainerPortArgsDict, {"container_port": 80, "name": "http"}),
    "EmptyDirVolumeSourceArgsDict": (EmptyDirVolumeSourceArgsDict, {"size_limit": "1Mi"}),
    "EnvVarArgsDict": (EnvVarArgsDict, {"name": "A", "value": "b"}),
    "VolumeArgsDict": (VolumeArgsDict, {"name": "a"}),
    "VolumeMountArgsDict": (VolumeMountArgsDict, {"name": "a", "mount_path": "/a"}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_declared_of_a_shape_of_kubernetes_holds(name: str) -> None:
    shape, right = SHAPED[name]
    assert resolved_value(Place(WHERE, "it"), read(shape), right) == right
    assert set(right) == set(arguments_of(SHAPES[name]))
    for argument in arguments(SHAPES[name], right):
        for value, path in odd_values(argument):
            with pytest.raises(InputError, match=re.escape(f"it.{path}")):
                resolved_value(Place(WHERE, "it"), read(shape), argument.put(value))


def test_outputs_of_a_shape_are_checked_when_they_are_known() -> None:
    def program(limit: Any) -> None:
        resolved_value(Place(WHERE, "it"), read(Resources), {"limits": limit})

    build(lambda: program({"memory": pulumi.Output.from_input("64Mi")}))
    with pytest.raises(InputError, match="it.limits.memory is '64m'; must be a size of at least"):
        build(lambda: program({"memory": pulumi.Output.from_input("64m")}))
    # Then it is too late to leave it out.
    with pytest.raises(InputError, match="it.limits.cpu is 'none'; must be a number of processors"):
        build(lambda: program({"cpu": pulumi.Output.from_input("none")}))
    with pytest.raises(InputError, match="it.limits is <known only later>; must be a plain mapp"):
        build(lambda: program(pulumi.Output.from_input({"memory": "64Mi"})))


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (Image, "me:swordfish@registry.example/app:1"),
        (Registry, "me:swordfish@registry.example"),
        (Endpoint, "redis://me:swordfish@web:80"),
        (Host, "me:swordfish@web"),
        (HttpUrl, "http://me:swordfish@web/"),
    ],
)
def test_credentials_in_an_address_are_not_shown(declared: Any, value: str) -> None:
    with pytest.raises(InputError, match="it is <secret>; must have no user and pass") as caught:
        resolved_value(Place(WHERE, "it"), read(declared), value)
    assert "swordfish" not in str(caught.value)


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(InputError) as caught:
        store(word="A" * 10_000)
    assert len(str(caught.value)) < 700
    assert "... (10002 characters); must have at most 5 characters" in str(caught.value)


def everything(path: str, declared: Declared) -> Iterator[tuple[str, Declared]]:
    yield path, declared
    for suffix, part in (("[]", declared.items), (" (a key)", declared.keys)):
        if part is not None:
            yield from everything(path + suffix, part)
    if declared.form == "arguments":
        for key, each in arguments_of(declared.type).items():
            yield from everything(f"{path}.{key}", each)


ALL = {
    path: declared
    for example in EVERY.values()
    for key, top in arguments_of(example.declaration).items()
    for path, declared in everything(f"{example.component.__name__}.{key}", top)
}
"""Every argument of every component, at every depth."""


def test_every_constraint_has_values_that_it_refuses() -> None:
    """With which the arguments that have it are tried."""
    for path, declared in ALL.items():
        for constraint in declared.constraints:
            assert constraint.odd or constraint is DISTINCT, (path, constraint)


def test_an_argument_that_takes_anything_of_its_type_is_meant_to() -> None:
    """What nothing but Pulumi or a person reads, and numbers that a database answers."""
    free = {
        path.partition(".")[2]
        for path, declared in ALL.items()
        if not declared.constraints
        and (declared.form == "any" or (declared.form == "scalar" and declared.type is not bool))
    }
    assert free == {
        "hosting.annotations[]",
        "hosting.pod_annotations[]",
        "hosting.service_annotations[]",
        "generation",
        "keepers[]",
        "keepers (a key)",
        "queries[].at_least",
        "queries[].at_most",
    }
