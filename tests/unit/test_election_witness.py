"""What the live tests of the election make of a store's log: it must see what is wrong."""

from typing import Any

from tests.live.support.election import Attempt, late, miscounted, terms, two_at_once


def attempt(holder: str, token: int, since: float, until: float, **more: Any) -> Attempt:
    values: dict[str, Any] = {
        "number": 1, "at": since, "action": "increment", "highest": token, "accepted": True,
        "before": 0, "value": 1, **more,
    }  # fmt: skip
    return Attempt(holder=holder, token=token, since=since, until=until, **values)


def test_a_term_lasts_until_the_last_time_that_was_given() -> None:
    (term,) = terms([attempt("a", 1, 0, 5), attempt("a", 1, 0, 9), attempt("a", 1, 0, 7)])
    assert (term.since, term.until) == (0, 9)


def test_what_was_released_ended_then() -> None:
    first = [attempt("a", 1, 0, 9), attempt("a", 1, 0, 4, action="release")]
    assert two_at_once([*first, attempt("b", 2, 4.1, 9)]) == []
    assert two_at_once([*first, attempt("b", 2, 3.9, 9)])


def test_two_at_once_are_seen() -> None:
    assert two_at_once([attempt("a", 1, 0, 5), attempt("b", 2, 5, 9)]) == []
    (problem,) = two_at_once([attempt("a", 1, 0, 5), attempt("b", 2, 4.5, 9)])
    assert problem.startswith("0.500 s")


def test_two_at_once_are_seen_over_a_short_term_in_between() -> None:
    within = [attempt("a", 1, 0, 9), attempt("b", 2, 1, 2), attempt("c", 3, 3, 4)]
    assert len(two_at_once(within)) == 2


def test_one_holder_twice_is_two_terms() -> None:
    assert two_at_once([attempt("a", 1, 0, 5), attempt("a", 2, 4, 9)])


def test_a_late_write_is_one_with_an_older_token() -> None:
    stale = attempt("a", 1, 0, 5, highest=2)
    assert late([attempt("a", 1, 0, 5), stale]) == [stale]
    # To say that one has stopped is never too late.
    assert late([attempt("a", 1, 0, 5, highest=2, action="release")]) == []


def test_a_count_that_was_undone_is_seen() -> None:
    undone = attempt("a", 1, 0, 5, before=9, value=4)
    refused = attempt("a", 1, 0, 5, before=9, value=9, accepted=False)
    assert miscounted([attempt("a", 1, 0, 5), undone, refused]) == [undone]
