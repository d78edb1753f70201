"""Two-factor authentication (S21): what takes minutes, begun with the first test of the bus.

These come last of all that use its deployment, so that little is left to wait for.
"""

import time

from tests.live.support.events import CODE_SECONDS, Events
from tests.live.support.two_factor import OUTAGE_SECONDS, SlowLogins
from tests.live.support.waiting import eventually


def test_a_gateway_that_is_away_for_a_minute_sends_the_message_once(
    events: Events, slow_logins: SlowLogins
) -> None:
    made = slow_logins.unreached
    left = slow_logins.began + OUTAGE_SECONDS - time.monotonic()
    eventually(
        lambda: events.trace(made.id)["done"],
        max(0.0, left) + 40,
        lambda: f"it is sent: {events.trace(made.id)}, {events.dead(made.id)}",
    )
    (sent,) = made.messages()
    attempts = [one for one in events.trace(made.id)["records"] if one["outcome"] != "published"]
    assert [one["outcome"] for one in attempts] == ["failed"] * (len(attempts) - 1) + ["ok"]
    # It was refused until the minute was over, and it was the same event all the time.
    assert len(attempts) > 1
    assert sent["at"] >= slow_logins.refused_from + OUTAGE_SECONDS


def test_a_code_ends(slow_logins: SlowLogins) -> None:
    time.sleep(max(0, slow_logins.there + CODE_SECONDS + 0.5 - time.monotonic()))
    assert slow_logins.early.check(slow_logins.code) == (403, {"ok": False, "reason": "expired"})
