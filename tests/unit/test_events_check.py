"""The check of the sign-up: it publishes until an answer says that the event is accepted."""

import json
import math
import time

import pytest

from stacks.scripts import events_check
from tests.unit.support.wire import RESET, answered, chunked, raw_server

LATER = math.inf
ACCEPTED = answered(json.dumps({"id": "e1", "known": False}).encode(), status="202 Accepted")


@pytest.mark.parametrize(
    "bad",
    [
        answered(b'{"id": "e', length=40),
        chunked(b'{"id":', whole=False),
        answered(b"<html>hello</html>"),
        answered(b"[]"),
        answered(b"{}"),
        answered(b"\xff"),
        b"HTTQ\r\n\r\n",
        b"",
        [b"HTTP/1.1 20", RESET],
        answered(b"", status="503 Away"),
    ],
    ids=["short", "no last chunk", "a page", "a list", "no id", "no text", "no HTTP", "nothing",
         "reset", "503"],
)  # fmt: skip
def test_an_answer_that_does_not_accept_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, bad: bytes
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with raw_server(bad, ACCEPTED) as front:
        assert events_check.publish(front.url, {"user": "ada"}, "e1", LATER) == "e1"
        assert len(front.requests) == 2
        assert all(b"e1" in one for one in front.requests), "as one event"
