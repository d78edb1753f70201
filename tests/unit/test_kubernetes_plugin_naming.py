import re

from toolchain.plugins.kubernetes.naming import name_for, named
from toolchain.plugins.provider.provider import Autonaming

AUTONAMED = {"pulumi.com/autonamed": "true"}


def test_a_new_object_gets_its_resource_name_and_eight_hex_digits() -> None:
    metadata = named({"labels": {"a": "b"}}, {}, "web", b"seed")
    assert re.fullmatch(r"web-[0-9a-f]{8}", metadata["name"])
    assert metadata["annotations"] == AUTONAMED
    assert metadata["labels"] == {"a": "b"}


def test_the_same_seed_gives_the_same_name_and_another_one_another() -> None:
    assert name_for("web", b"one") == name_for("web", b"one")
    assert name_for("web", b"one") != name_for("web", b"two")
    assert name_for("web", b"") != name_for("web", b"")


def test_a_chosen_name_is_kept_over_updates() -> None:
    old = {"name": "web-00000000", "annotations": AUTONAMED}
    metadata = named({"annotations": {"x": "y"}}, old, "web", b"other")
    assert metadata["name"] == "web-00000000"
    assert metadata["annotations"] == {"x": "y", **AUTONAMED}


def test_a_name_that_the_program_no_longer_gives_is_not_kept() -> None:
    assert named({}, {"name": "explicit"}, "web", b"seed")["name"] != "explicit"


def test_the_programs_own_name_is_left_alone() -> None:
    for metadata in ({"name": "explicit"}, {"generateName": "some-"}):
        assert named(dict(metadata), {}, "web", b"seed") == metadata


def test_the_stacks_rule_for_names_is_followed() -> None:
    assert named({}, {}, "web", b"seed", Autonaming("ruled"))["name"] == "ruled"
    assert named({}, {}, "web", b"seed", Autonaming(None)) == {}
