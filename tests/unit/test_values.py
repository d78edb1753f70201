"""Edges, topologies and names."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.arguments.errors import InputError
from components.arguments.names import check_name
from components.values import edges, names
from components.values.edges import Edge
from components.values.targets import Target
from components.values.topology import Shard, Topology

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
    check_name("Derived", derived)


def test_long_names_stay_different() -> None:
    one, other = names.child("a" * 80 + "1", "x"), names.child("a" * 80 + "2", "x")
    assert one != other


def test_short_names_stay_as_they_are() -> None:
    assert names.child("web", "files") == "web-files"


def test_a_suffix_without_room_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no room"):
        names.child("a" * 80, "b" * 60)
