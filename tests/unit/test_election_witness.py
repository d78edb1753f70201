"""What the live tests of the election make of a store's log: it must see what is wrong."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.live.support.election import (
    FOLLOW,
    Attempt,
    late,
    left_over,
    miscounted,
    terms,
    two_at_once,
)


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


def test_a_term_that_began_before_the_former_one_was_over_was_handed_over() -> None:
    counted = attempt("a", 1, 0, 5)
    released = attempt("a", 1, 0, 2, action="release")
    handed_over, expired = attempt("b", 2, 3, 8), attempt("b", 2, 6, 8)
    assert left_over([counted, released, handed_over], 1) == 2
    # A release that the election's store never saw.
    assert left_over([counted, released, expired], 1) == -1


Page = dict[str, Any] | int


@contextmanager
def following(*pages: Page) -> Iterator["subprocess.Popen[str]"]:
    """The follower of a store that answers with these pages, or statuses, in order."""
    rest = list(pages)

    class Store(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = rest.pop(0) if rest else {"attempts": [], "oldest": 1, "last": 10**9}
            body = b"" if isinstance(page, int) else json.dumps(page).encode()
            self.send_response(page if isinstance(page, int) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program = FOLLOW.replace(":8080/", f":{server.server_port}/")
        with subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as follower:  # fmt: skip
            try:
                yield follower
            finally:
                follower.kill()
                server.shutdown()


def page(first: int, last: int, oldest: int = 1) -> Page:
    numbers = [{"number": number} for number in range(first, last + 1)]
    return {"attempts": numbers, "oldest": oldest, "last": last}


def test_a_store_that_does_not_answer_once_is_followed_further() -> None:
    with following(page(1, 2), 503, page(3, 3)) as follower:
        assert follower.stdout is not None
        lines = [json.loads(follower.stdout.readline())["number"] for _ in range(3)]
        assert lines == [1, 2, 3]
        assert follower.poll() is None


@pytest.mark.parametrize(
    ("after", "said"),
    [
        pytest.param(page(1, 1), "lost after attempt 2: the store has 1 to 1", id="begun again"),
        pytest.param(page(5, 6, 5), "lost after attempt 2: the store has 5 to 6", id="a gap"),
    ],
)
def test_attempts_that_are_lost_end_it(after: Page, said: str) -> None:
    with following(page(1, 2), after) as follower:
        output, errors = follower.communicate(timeout=60)
    assert [json.loads(line)["number"] for line in output.splitlines()] == [1, 2]
    assert follower.returncode == 1
    assert said in errors
