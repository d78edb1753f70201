"""Checks, errors, edges, topologies and names."""

import asyncio
from typing import Any, NotRequired, TypedDict

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.arguments.errors import InputError
from components.values import checks, edges, names
from components.values.edges import Edge
from components.values.targets import Target
from components.values.topology import Shard, Topology

WHERE = 'ShardedRedis "cache"'


class Arguments(TypedDict):
    image: str
    shards: NotRequired[int]


def test_an_error_says_where_what_and_what_would_be_right() -> None:
    error = InputError(WHERE, "shards", 0, "must be at least 1")
    assert str(error) == 'ShardedRedis "cache": shards is 0; must be at least 1'
    # Pulumi prints a RunError without a traceback.
    assert isinstance(error, pulumi.RunError)


def test_an_unknown_argument_gets_the_nearest_known() -> None:
    with pytest.raises(InputError) as caught:
        checks.known_arguments(WHERE, Arguments, {"image": "a:1", "shard": 3})
    assert str(caught.value) == (
        'ShardedRedis "cache": shard is not an argument; did you mean shards? known are image, shards'
    )


def test_a_missing_argument_is_named() -> None:
    for args in ({}, {"image": None}):
        with pytest.raises(InputError, match="image is missing; required are image"):
            checks.known_arguments(WHERE, Arguments, args)


def test_arguments_are_a_mapping() -> None:
    with pytest.raises(InputError, match="as Arguments says"):
        checks.known_arguments(WHERE, Arguments, [("image", "a:1")])  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1, 5, 5.0])
def test_whole_numbers(value: Any) -> None:
    result = checks.integer(WHERE, "n", value, minimum=1, maximum=5)
    assert result == value
    assert isinstance(result, int)


@pytest.mark.parametrize("value", [0, 6, 1.5, "1", None, True, float("nan")])
def test_no_whole_numbers(value: Any) -> None:
    with pytest.raises(InputError):
        checks.integer(WHERE, "n", value, minimum=1, maximum=5)


@pytest.mark.parametrize("value", [0, 100, 10.5])
def test_percentages(value: float) -> None:
    assert checks.percentage(WHERE, "share", value) == value


@pytest.mark.parametrize("value", [-0.1, 100.1, float("inf"), float("nan"), "10", True])
def test_no_percentages(value: Any) -> None:
    with pytest.raises(InputError):
        checks.percentage(WHERE, "share", value)


@pytest.mark.parametrize(
    "reference",
    [
        "redis:7",
        "redis:7.0.15-bookworm",
        "library/redis:7",
        "localhost:5000/dds/redis:current",
        "localhost:5000/dds/redis@sha256:" + "a" * 64,
        "redis:7@sha256:" + "0" * 64,
        "redis:latest@sha256:" + "0" * 64,
    ],
)
def test_images(reference: str) -> None:
    assert checks.image_reference(WHERE, "image", reference) == reference


@pytest.mark.parametrize(
    "reference",
    [
        "redis",
        "redis:latest",
        "localhost:5000/redis",
        "localhost:5000/redis:latest",
        "redis@sha256:abc",
        "redis:",
        "",
        ":7",
        "Redis:7",
        "redis :7",
        None,
        7,
    ],
)
def test_no_images(reference: Any) -> None:
    with pytest.raises(InputError):
        checks.image_reference(WHERE, "image", reference)


@pytest.mark.parametrize("name", ["a", "a-1", "1", "a" * 63])
def test_labels(name: str) -> None:
    assert checks.dns_label(WHERE, "name", name) == name


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a_b", "a.b", "ä", "a" * 64, None, 1, "a\n"])
def test_no_labels(name: Any) -> None:
    with pytest.raises(InputError):
        checks.dns_label(WHERE, "name", name)


def test_a_label_leaves_room_for_derived_names() -> None:
    checks.dns_label(WHERE, "name", "a" * 52, reserve=11)
    with pytest.raises(InputError, match="at most 52 characters, it has 53"):
        checks.dns_label(WHERE, "name", "a" * 53, reserve=11)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1", 1), ("250m", 0.25), ("64Mi", 64 * 2**20), ("1.5G", 1.5e9), ("2k", 2000)],
)
def test_quantities(text: str, amount: float) -> None:
    assert checks.quantity(WHERE, "size", text) == text
    assert checks.amount(text) == pytest.approx(amount)


@pytest.mark.parametrize("text", ["", "0", "-1", "64MB", "1 Gi", "Mi", 64, None])
def test_no_quantities(text: Any) -> None:
    with pytest.raises(InputError):
        checks.quantity(WHERE, "size", text)


@pytest.mark.parametrize("path", ["a", "/", "/a/", "//a", "/a/../b", "/a/./b", "", None])
def test_no_paths(path: Any) -> None:
    with pytest.raises(InputError):
        checks.absolute_path(WHERE, "path", path)


def test_a_value_known_later_is_refused_where_it_must_be_known() -> None:
    async def main() -> None:
        later: Any = pulumi.Output.from_input(3)
        with pytest.raises(InputError, match="because it decides how many shards there are"):
            checks.plain(WHERE, "shards", later, "it decides how many shards there are")

    asyncio.run(main())
    assert checks.plain(WHERE, "shards", 3, "") == 3


def test_one_of_a_few_words() -> None:
    with pytest.raises(InputError, match="role is 'cach'; must be one of cache, store"):
        checks.one_of(WHERE, "role", "cach", ("cache", "store"))


# Edges


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        ({"ports": ()}, "must not be empty"),
        ({"ports": (0,)}, "from 1 to 65535"),
        ({"ports": (1,), "protocol": "tcp"}, "one of TCP, UDP, SCTP"),
        ({"ports": (1,), "cidr": "203.0.113.0"}, "with its mask"),
        ({"ports": (1,), "cidr": "203.0.113.1/24"}, "with its mask"),
        ({"ports": (1,), "cidr": "203.0.113.0/24", "pods": {}}, "must stand alone"),
    ],
)
def test_a_bad_edge_is_refused(edge: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Edge(**edge)


def test_name_resolution_is_asked_over_both_protocols() -> None:
    assert {edge.protocol for edge in edges.DNS} == {"UDP", "TCP"}


# Topologies

SHARDS = (Shard("a", "host-a", 6379), Shard("b", "host-b", 6379))


def topology(**changes: Any) -> Topology:
    given: Any = {
        "name": "cache",
        "shards": SHARDS,
        "protocol": "redis",
        "client_label": ("client", "yes"),
        **changes,
    }
    return Topology(**given)


def test_a_topology_keeps_its_order() -> None:
    assert [shard.name for shard in topology().shards] == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shards": ()}, "must not be empty"),
        (
            {"shards": (*SHARDS, Shard("a", "host-c", 6379))},
            "shards is 'a'; must have different names",
        ),
        (
            {"shards": (*SHARDS, Shard("c", "host-a", 6379))},
            "'host-a:6379'; must have different addresses, a and c",
        ),
        ({"protocol": "smtp"}, "one of redis, memcached, http"),
    ],
)
def test_a_bad_topology_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        topology(**changes)


@pytest.mark.parametrize("shard", [("", "h", 1), ("a b", "h", 1), ("a", "", 1), ("a", "h", 0)])
def test_a_bad_shard_is_refused(shard: Any) -> None:
    with pytest.raises(InputError):
        Shard(*shard)


def test_credentials_in_a_targets_url_are_refused_and_not_shown() -> None:
    with pytest.raises(InputError, match="must have no user and password") as caught:
        Target("http://me:swordfish@web/", Edge(ports=(80,), pods={}))
    assert "swordfish" not in str(caught.value)


# Names


@given(
    st.from_regex(r"[a-z]([-a-z0-9]{0,80}[a-z0-9])?", fullmatch=True),
    st.sampled_from(["x", "smoke-test"]),
)
def test_a_derived_name_is_a_label_with_room_for_auto_naming(name: str, suffix: str) -> None:
    derived = names.child(name, suffix)
    assert len(derived) + names.AUTONAME <= 63
    assert derived.endswith(f"-{suffix}")
    checks.dns_label(WHERE, "name", derived)


def test_long_names_stay_different() -> None:
    one, other = names.child("a" * 80 + "1", "x"), names.child("a" * 80 + "2", "x")
    assert one != other


def test_short_names_stay_as_they_are() -> None:
    assert names.child("web", "files") == "web-files"


def test_a_suffix_without_room_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no room"):
        names.child("a" * 80, "b" * 60)
