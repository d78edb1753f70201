"""One-time codes: what is made for which event, and what a check comes to."""

import dataclasses
import json
from typing import Any

import pytest

from tests.unit.support.programs import program

onetime: Any = program("events/events/onetime.py")


def test_codes_are_six_digits_and_differ() -> None:
    codes = {onetime.digits(6) for _ in range(200)}
    assert all(len(code) == 6 and code.isdigit() for code in codes)
    assert len(codes) > 190


def made(now: Any, key: str, event: float, moment: float) -> Any:
    return onetime.made(now, key, event, moment, 30, 6)


def test_the_same_key_has_the_same_code_until_it_ends_and_none_afterwards() -> None:
    first = made(None, "k", 100.0, 100.0)
    assert first.ends == 130
    assert made(first, "k", 100.0, 129.9) is first
    assert made(first, "k", 100.0, 130.0) is None
    other = made(first, "k2", 101.0, 101.0)
    assert (other.key, other.ends, other.wrong) == ("k2", 131, 0)


@pytest.mark.parametrize("again", [101.5, 120.0, 129.0, 131.0, 1000.0])
def test_an_event_that_comes_again_after_the_next_one_makes_no_third_code(again: float) -> None:
    # Within one second, and with the later one's code kept for as long as it lasts.
    first = made(None, "k1", 100.0, 100.5)
    second = made(first, "k2", 100.0, 101.0)
    assert made(second, "k1", 100.0, again) is None
    # Kept as it is between: by what is stored.
    stored = onetime.Code(**json.loads(json.dumps(dataclasses.asdict(second))))
    assert made(stored, "k1", 100.0, again) is None


def test_an_event_older_than_a_code_may_last_gets_none_though_nothing_is_known_of_it() -> None:
    assert made(None, "k1", 100.0, 129.9) is not None
    assert made(None, "k1", 100.0, 130.0) is None


def test_an_event_that_is_late_does_not_replace_the_code_of_a_later_one() -> None:
    second = made(None, "k2", 110.0, 111.0)
    assert made(second, "k1", 100.0, 112.0) is None


def test_what_is_remembered_of_a_user_has_an_end() -> None:
    code: Any = None
    for number in range(100):
        code = made(code, f"k{number}", 100.0 + number / 5, 120.0)
    assert len(code.earlier) == 32
    # Whatever is forgotten, the order of the events says it.
    assert made(code, "k0", 100.0, 121.0) is None


def test_clocks_that_differ_a_little_keep_nobody_from_a_code() -> None:
    first = made(None, "k1", 105.0, 105.0)
    assert made(first, "k2", 103.5, 106.0) is not None
    # One that is far ahead counts as now.
    ahead = made(None, "k1", 500.0, 100.0)
    assert made(ahead, "k2", 101.0, 101.0) is not None


def test_a_code_is_good_once_before_its_end_and_after_few_wrong_ones() -> None:
    code = onetime.Code("k", "123456", 130.0)
    verdict, used = onetime.judged(code, "123456", 129.9, 3)
    assert (verdict, used.used) == ("right", True)
    assert onetime.judged(used, "123456", 129.9, 3) == ("none", None)
    assert onetime.judged(code, "123456", 130.0, 3) == ("expired", None)
    assert onetime.judged(None, "123456", 0.0, 3) == ("none", None)
    for wrong in range(3):
        verdict, code = onetime.judged(code, "000000", 100.0, 3)
        assert (verdict, code.wrong) == ("wrong", wrong + 1)
    assert onetime.judged(code, "123456", 100.0, 3) == ("too many attempts", None)
