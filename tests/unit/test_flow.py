"""Flows: what is refused, with the path named; ways; the drawing."""

from collections.abc import Mapping
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dds_patterns.arguments.errors import InputError
from dds_patterns.values.flow import Flow, Next

SIGNUP = {
    "create-user": Next(required=("email-user",), optional={"newsletter": "subscribe-user"}),
    "email-user": Next(),
    "subscribe-user": Next(),
}


def chain(**edges: str) -> dict[str, Next]:
    return {name: Next(required=tuple(to.split())) for name, to in edges.items()}


@pytest.mark.parametrize(
    ("first", "steps", "message"),
    [
        ("a", chain(a="b", b="c", c="a"), "is 'a to b to c to a'; is a cycle"),
        ("a", chain(a="a"), "is 'a to a'; is a cycle"),
        ("x", chain(x="a", a="b", b="c", c="b"), "is 'b to c to b'; is a cycle"),
        # Nobody enters this circle, but it is one all the same.
        ("a", chain(a="", b="c", c="b"), "is 'b to c to b'; is a cycle"),
        ("a", {"a": Next(optional={"x": "b"}), "b": Next(required=("a",))}, "'a to b to a'"),
        ("a", chain(a="b c", b=""), r"steps\[a\] is 'c'; is no step of the flow"),
        ("a", chain(a="emial", email=""), "did you mean email"),
        ("a", chain(a="b", b="", c=""), "is 'c'; is unreachable: no path"),
        ("a", chain(a="", b="a"), "is 'b'; is unreachable: no path"),
        ("z", chain(a=""), "first is 'z'; known are a"),
        ("a", {}, "steps is {}; must not be empty"),
        ("a", chain(a="b b", b=""), "is listed twice"),
        ("a", {"a": Next(required=("b",), optional={"x": "b"}), "b": Next()}, "is listed twice"),
        ("a", {"a": ("b",), "b": Next()}, r"steps\[a\] is \('b',\); must be a Next"),
        ("a", ["a"], "steps is .*; must be a mapping"),
        (1, chain(a=""), "first is 1; must be a string"),
        ("A", {"A": Next()}, "DNS label"),
        ("a" * 41, {"a" * 41: Next()}, "at most 40 characters"),
    ],
)
def test_what_cannot_be_a_flow_is_refused(first: str, steps: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Flow("signup", first, steps)


@pytest.mark.parametrize(
    ("following", "message"),
    [
        ({"optional": {"": "b"}}, r"optional \(a key\) is ''; must be the name of a field"),
        ({"optional": {'a" --> s1': "b"}}, r"optional \(a key\).*must be the name of a field"),
        (
            {"optional": {"a\nb": "b"}},
            r"optional \(a key\) is 'a\\nb'; must be the name of a field",
        ),
        ({"optional": ["b"]}, "optional is .*; must be a mapping"),
        ({"optional": {"x": "B"}}, r"optional\[x\] is 'B'; must be a DNS label"),
        ({"required": "b"}, "required is 'b'; must be a list"),
        ({"required": ("B",)}, r"required\[0\] is 'B'; must be a DNS label"),
        ({"required": (1,)}, r"required\[0\] is 1; must be a string"),
    ],
)
def test_what_cannot_follow_is_refused(following: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"Next: {message}"):
        Next(**following)


def test_a_list_of_steps_is_as_good_as_a_tuple() -> None:
    assert Next(required=cast(Any, ["b"])) == Next(required=("b",))


@pytest.mark.parametrize("name", ["Sign", "", "s" * 24, "sign.up"])
def test_a_flows_name_is_a_label_that_leaves_room(name: str) -> None:
    with pytest.raises(InputError, match="name"):
        Flow(name, "a", chain(a=""))


def test_ways_and_edges_come_in_the_order_of_their_declaration() -> None:
    flow = Flow("signup", "create-user", SIGNUP)
    assert flow.paths() == [
        ("create-user",),
        ("create-user", "email-user"),
        ("create-user", "subscribe-user"),
    ]
    assert flow.edges("create-user") == [("email-user", None), ("subscribe-user", "newsletter")]


def test_a_step_that_two_edges_lead_to_is_on_two_ways() -> None:
    flow = Flow("diamond", "a", chain(a="b c", b="d", c="d", d=""))
    assert [path for path in flow.paths() if path[-1] == "d"] == [("a", "b", "d"), ("a", "c", "d")]


def test_the_drawing_has_every_step_and_every_edge() -> None:
    assert Flow("signup", "create-user", SIGNUP).mermaid() == (
        "flowchart LR\n"
        '    event(["signup"]) --> s0\n'
        '    s0["create-user"]\n'
        '    s1["email-user"]\n'
        '    s2["subscribe-user"]\n'
        "    s0 --> s1\n"
        '    s0 -. "newsletter" .-> s2\n'
    )


@st.composite
def graphs(draw: st.DrawFn) -> Mapping[str, Next]:
    names = [f"s{number}" for number in range(draw(st.integers(1, 6)))]
    following = st.lists(st.sampled_from(names), unique=True, max_size=3).map(tuple)
    return {name: Next(required=draw(following)) for name in names}


@given(graphs())
def test_a_flow_is_accepted_exactly_if_it_ends_and_all_is_reached(
    steps: Mapping[str, Next],
) -> None:
    # By another way: all walks of more steps than there are, and what they pass.
    walks = [["s0"]]
    passed = {"s0"}
    for _ in range(len(steps)):
        walks = [[*walk, to] for walk in walks for to in steps[walk[-1]].required]
        passed |= {walk[-1] for walk in walks}
    # A circle that is not reached is refused for either reason.
    fine = not walks and passed == set(steps)
    try:
        flow = Flow("flow", "s0", steps)
    except InputError:
        assert not fine
    else:
        assert fine
        assert {path[-1] for path in flow.paths()} == set(steps)
