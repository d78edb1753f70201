"""A pipeline of three steps, and what becomes of its events when something fails (S22)."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.live.support.events import Events, batch, key, ways
from tests.live.support.kube import Pod
from tests.live.support.waiting import eventually

COUNT = 40
# An event of a subscriber that was killed is given to another after ten seconds, then tried again.
PATIENCE = 90


def published(events: Events, batch_of: list[dict[str, Any]]) -> None:
    """Publish all of them, each until it is accepted."""
    answer = events.ask("publish", url=events.outputs["signup"], events=batch_of)
    assert answer["missing"] == []


def ids(batch_of: list[dict[str, Any]]) -> list[str]:
    return [event["id"] for event in batch_of]


def test_every_event_goes_the_required_ways_and_the_optional_ones_it_asks_for(
    events: Events,
) -> None:
    mine = batch(10)
    published(events, mine)
    # The same ids again are known, and go no way twice.
    again = events.http(events.outputs["signup"], mine[0]["data"], headers={"ce-id": mine[0]["id"]})
    assert again == (202, {"id": mine[0]["id"], "known": True})
    events.settled(ways(mine), ids(mine), PATIENCE)


def test_the_trace_shows_the_way_of_an_event_with_its_times(events: Events) -> None:
    (_, mine) = batch(2, fail={"email-user": 1})
    published(events, [mine])
    events.settled(ways([mine]), [mine["id"]], PATIENCE)

    def over() -> Any:
        found = events.trace(mine["id"])
        return found if found["done"] and not found["waiting"] else None

    found = eventually(over, 20, "every step has its record")
    assert found["done"] == [
        "create-user", "create-user/email-user", "create-user/subscribe-user",
    ]  # fmt: skip
    records = sorted(found["records"], key=lambda one: one["at"])
    assert records[0]["outcome"] == "published"
    mails = [one for one in records if one["path"] == "create-user/email-user"]
    assert [(one["outcome"], one["attempt"]) for one in mails] == [("failed", 1), ("ok", 2)]
    # The second attempt came as late as the first one said, and what follows came afterwards.
    first, second = mails
    assert second["at"] - (first["at"] + first["ms"] / 1000) >= 0.9 * first["again"]
    (made,) = [one for one in records if one["path"] == "create-user"]
    assert records[0]["at"] <= made["at"] <= first["at"]
    shown = events.events("trace", mine["id"])
    for words in ("create-user > email-user", "attempt 2 of 20", "optional", "3 done in"):
        assert words in shown


def test_a_poisoned_event_ends_in_the_dead_letters_and_holds_up_no_other(events: Events) -> None:
    poison, *others = batch(8)
    poison["data"] |= {"fail": {"subscribe-user": 10**6}, "newsletter": True}
    published(events, [poison, *others])
    done = [key(poison["id"], "create-user"), key(poison["id"], "create-user", "email-user")]
    events.settled(ways(others) + Counter(done), ids([poison, *others]), PATIENCE)
    (letter,) = eventually(
        lambda: events.dead(poison["id"]), PATIENCE, "the poisoned event is a dead letter"
    )
    assert letter["from"] == "signup-pipeline.subscribe-user"
    assert (letter["path"], letter["attempts"]) == ("create-user", 6)
    assert letter["reason"] == "status 500"
    assert len(events.dead()) == 1, "others are dead letters as well"
    found = eventually(
        lambda: (t := events.trace(poison["id"]))["dead"] and t, 20, "the trace says so"
    )
    assert found["dead"] == ["create-user/subscribe-user"]
    way = key(poison["id"], "create-user", "subscribe-user")
    tries = [one for one in events.calls() if one["key"] == way]
    assert [one["attempt"] for one in tries] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("killed", ["steps", "bus", "signup-pipeline"])
def test_a_kill_in_the_middle_loses_nothing(events: Events, killed: str) -> None:
    before, after = batch(COUNT, slow=0.4), batch(COUNT // 4)
    mine = [*before, *after]
    container = {"bus": "nats", "steps": "steps", "signup-pipeline": "events"}[killed]
    pod = events.pod(killed)
    published(events, before)
    eventually(lambda: events.effects(ids(before)), PATIENCE, "the first event has an effect")
    events.nodes.kill(pod, container)
    moment = time.time()
    # What is published while something is away is refused or accepted; never accepted and lost.
    published(events, after)
    # Each effect once, though calls may have come twice: duplicates have the same key.
    events.settled(ways(mine), ids(mine), PATIENCE)
    times = [one["at"] for one in events.calls() if one["key"].split("/")[0] in ids(mine)]
    assert min(times) < moment < max(times), "it was not killed in the middle"
    events.kube.restarted(pod, container)
    assert [one for one in events.dead() if one["id"] in ids(mine)] == []


def test_a_bus_whose_pod_is_gone_has_everything_when_it_is_back(events: Events) -> None:
    before, after = batch(10, slow=0.4), batch(10)
    pod = events.pod("bus")
    published(events, before)
    events.kube.delete_pod(pod, grace=1)
    published(events, after)
    mine = [*before, *after]
    events.settled(ways(mine), ids(mine), PATIENCE)
    back = events.kube.ready_pod(events.namespace, pod.name, 90)
    assert back.uid != pod.uid


def test_an_event_outlives_all_who_knew_of_it(events: Events) -> None:
    def both() -> list[Pod]:
        pods = events.pods("signup-pipeline")
        return pods if len(pods) == 2 else []

    # One that lost the bus is not ready for a while, and would remember.
    pods = eventually(both, 60, "two pods deliver")
    (mine,) = batch(1, slow_first=15)
    way = key(mine["id"], "create-user")
    published(events, [mine])
    eventually(
        lambda: way in events.http(f"{events.outputs['steps']}/working")[1],
        PATIENCE,
        "the first step works",
    )
    # Both pods die while it does: nobody is left who could have remembered it.
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda pod: events.nodes.kill(pod, "events"), pods))
    working = events.http(f"{events.outputs['steps']}/working")[1]
    assert way in working, "the step had answered before they died"
    events.settled(ways([mine]), [mine["id"]], PATIENCE)
    calls = [one for one in events.calls() if one["key"] == way]
    assert sorted(one["attempt"] for one in calls) == [1, 2]
    assert [one["effect"] for one in calls].count(True) == 1


def test_a_full_bus_refuses_what_is_new_and_repeats_no_step(events: Events) -> None:
    mine: list[dict[str, Any]] = []
    # Where publishing takes as long as the steps do, the bus is never full: they get slower.
    for slow in (0.2, 0.4, 0.8, 1.6, 3.2):
        # One and a half times what published events may take; each gets longer on its way.
        more = batch(240, slow=slow)
        answer = events.ask(
            "publish", url=events.outputs["signup"], events=more, padding=6000, seconds=300
        )
        assert answer["missing"] == []
        mine += more
        if answer["again"]:
            break
    else:
        pytest.fail("it was never full")
    events.settled(ways(mine), ids(mine), PATIENCE)
    known = set(ids(mine))
    attempts = Counter(
        one["attempt"] for one in events.calls() if one["key"].split("/")[0] in known
    )
    assert attempts == {1: sum(ways(mine).values())}
    assert [one for one in events.dead() if one["id"] in known] == []


def test_a_place_that_is_gone_from_the_bus_is_made_again(events: Events) -> None:
    place = "signup-pipeline_email-user"
    script = f"""
import asyncio
from events import bus, rules
async def main():
    connection = await bus.connect("test", timeout=30)
    stream = connection.jetstream(timeout=10)
    await stream.delete_consumer(rules.EVENTS, {place!r})
    while True:
        try:
            await stream.consumer_info(rules.EVENTS, {place!r})
        except bus.BUS_ERRORS:
            await asyncio.sleep(0.1)
        else:
            return
asyncio.run(main())
"""
    pod = events.pod("signup-pipeline")
    events.kube.run(pod, "events", ["python3", "-c", script], 60)
    mine = batch(4)
    published(events, mine)
    events.settled(ways(mine), ids(mine), PATIENCE)
