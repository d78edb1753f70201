"""Topologies and names."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dds_patterns.arguments.errors import InputError
from dds_patterns.arguments.names import check_name
from dds_patterns.values import names
from dds_patterns.values.topology import Topology

# Topologies


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shards": ()}, "must not be empty"),
        ({"shards": ("a", "a")}, "'a' is listed twice"),
        ({"shards": ("a b",)}, "letters, digits and"),
        ({"hash": "sha1"}, "one of "),
        ({"hash_tag": "{"}, "two printable characters"),
    ],
)
def test_a_bad_topology_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Topology(**{"shards": ("a", "b"), **changes})


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
