from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.plugins.provider.values import (
    UNKNOWN,
    Secret,
    Tagged,
    decode,
    encode,
    from_json,
    has_secret,
    has_unknown,
    keep_secrets,
    plain,
    secret,
)

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**50), 2**50)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer())
    | st.text(max_size=8)
    | st.just(UNKNOWN)
    | st.builds(Secret, st.text(max_size=8))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_values_survive_the_wire(properties: dict[str, Any]) -> None:
    assert decode(encode(properties)) == properties


def test_whole_numbers_are_integers_again() -> None:
    decoded = decode(encode({"replicas": 3.0, "ratio": 0.5}))
    assert decoded == {"replicas": 3, "ratio": 0.5}
    assert isinstance(decoded["replicas"], int)


def test_an_output_value_is_its_value_or_unknown() -> None:
    output = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
    sent = {
        "known": Tagged(output, {"value": "x", "secret": True}),
        "later": Tagged(output, {"dependencies": ["urn"]}),
        "secret": Tagged(output, {"secret": True}),
    }
    decoded = decode(encode(sent))
    assert decoded == {"known": Secret("x"), "later": UNKNOWN, "secret": Secret(UNKNOWN)}


def test_what_has_no_wire_form_is_refused() -> None:
    with pytest.raises(TypeError, match="a set has no place"):
        encode({"x": {1}})


def test_a_secret_does_not_show_in_its_representation() -> None:
    assert "hunter2" not in repr(Secret("hunter2"))


def test_secrets_are_found_and_removed_at_any_depth() -> None:
    value = {"a": [{"b": Secret({"c": UNKNOWN})}]}
    assert has_secret(value)
    assert has_unknown(value)
    assert plain(value) == {"a": [{"b": {"c": UNKNOWN}}]}
    assert not has_secret(plain(value))
    assert secret(value) == Secret(plain(value))


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ({"a": Secret(1)}, {"a": 2, "b": 3}, {"a": Secret(2), "b": 3}),
        ({"a": {"b": Secret(1)}}, {"a": {"b": 2, "c": 3}}, {"a": {"b": Secret(2), "c": 3}}),
        ({"a": [Secret(1), 2]}, {"a": [3, 4]}, {"a": [Secret(3), 4]}),
        ({"a": [Secret(1)]}, {"a": [3, 4]}, {"a": Secret([3, 4])}),
        ({"a": {"b": Secret(1)}}, {"a": "text"}, {"a": Secret("text")}),
        ({"a": Secret(1)}, {"b": 2}, {"b": 2}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
    ],
)
def test_what_is_secret_stays_secret(source: Any, target: Any, expected: Any) -> None:
    assert keep_secrets(source, target) == expected


def test_arguments_that_the_sdk_sends_as_text_are_read() -> None:
    assert from_json("true") is True
    assert from_json('{"burst": 3}') == {"burst": 3}
    assert from_json("[1") == "[1"
    assert from_json("text") == "text"
    assert from_json(Secret("false")) is False
