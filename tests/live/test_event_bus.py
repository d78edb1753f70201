"""The bus itself, and two-factor authentication on it (S21)."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from dds_patterns.serving.event_bus import PASSWORD_FILE
from tests.live.support.events import Events, batch, ways
from tests.live.support.kube import ExecError
from tests.live.support.stacks import Update
from tests.live.support.two_factor import behave, login
from tests.live.support.waiting import eventually

FORBIDDEN = """
import asyncio, sys
from events import bus
async def main():
    connection = await bus.connect("test", timeout=float(sys.argv.pop(1)))
    stream = connection.jetstream(timeout=10)
    await getattr(stream, sys.argv[1])(*sys.argv[2:])
    print("done")
asyncio.run(main())
"""

LOGIN = """
import asyncio, os, sys
import nats
async def main():
    try:
        connection = await nats.connect(
            f"nats://{os.environ['BUS']}", user=sys.argv[1], password=sys.argv[2],
            allow_reconnect=False, connect_timeout=10,
        )
    except Exception as error:
        print("refused" if "authorization" in str(error).lower() else repr(error))
    else:
        print("in")
        await connection.close()
asyncio.run(main())
"""

pytestmark = pytest.mark.usefixtures("slow_logins")


def test_the_message_arrives_once_and_its_code_is_good_once(
    events: Events,
) -> None:
    made = login(events)
    code = made.code()
    assert len(code) == 6
    assert code.isdigit()
    assert made.check(code) == (200, {"ok": True})
    assert made.check(code) == (403, {"ok": False, "reason": "none"})
    found = made.over()
    assert found["done"] == ["two-factor"]
    assert len(made.messages()) == 1


def test_after_three_wrong_codes_the_right_one_is_refused(
    events: Events,
) -> None:
    made = login(events)
    code = made.code()
    wrong = "000000" if code != "000000" else "111111"
    answers = [made.check(wrong) for _ in range(3)]
    assert answers == [(403, {"ok": False, "reason": "wrong"})] * 3
    assert made.check(code) == (403, {"ok": False, "reason": "too many attempts"})


def test_a_gateway_that_is_down_for_some_time_sends_each_message_once(
    events: Events,
) -> None:
    phone = "+4930777777"
    behave(events, down=600, to=phone)
    try:
        made = [login(events, phone) for _ in range(3)]
        for one in made:
            eventually(lambda one=one: one.outcomes().count("failed"), 40, "it is refused")  # type: ignore[misc]
    finally:
        behave(events, down=0, to=phone)
    for one in made:
        assert one.over()["done"] == ["two-factor"]
    assert [len(one.messages()) for one in made] == [1, 1, 1]


def test_a_lost_answer_does_not_send_a_second_message(
    events: Events,
) -> None:
    phone = "+4930666666"
    behave(events, lose=2, to=phone)
    made = login(events, phone)
    made.over()
    # Once more where the function took too long.
    assert made.outcomes().count("failed") >= 2
    assert len(made.messages()) == 1
    assert made.check(made.code()) == (200, {"ok": True})


def test_without_keys_at_the_gateway_a_lost_answer_does_send_a_second_one(
    events: Events,
) -> None:
    # What the key is for: at least once is all that a bus alone can promise.
    phone = "+4930555555"
    behave(events, keys=False, lose=1, to=phone)
    try:
        made = login(events, phone)
        made.over()
        bodies = [one["body"] for one in made.messages()]
    finally:
        behave(events, keys=True)
    assert len(bodies) >= 2
    assert set(bodies) == {bodies[0]}, "the user has two different codes"


def test_events_wake_a_function_that_has_no_pod(events: Events) -> None:
    eventually(lambda: not events.pods("naps"), 90, "it has no pod")
    ids = [f"nap-{number}-{time.time_ns()}" for number in range(5)]
    for event in ids:
        assert events.http(events.outputs["naps"], {}, headers={"ce-id": event})[0] == 202

    def over() -> bool:
        return all(events.trace(event)["done"] == ["naps"] for event in ids)

    eventually(over, 90, "every event is acknowledged")
    for event in ids:
        # Held, not refused and tried again.
        tries = [(r["outcome"], r.get("attempt")) for r in events.trace(event)["records"]]
        assert sorted(tries) == [("ok", 1), ("published", None)]


def test_only_clients_reach_the_bus_and_none_its_monitor(events: Events) -> None:
    address = events.pod("bus").address
    for port in (4222, 8222):
        assert events.ask("reach", at=f"{address}:{port}")["reached"] is False
    # The way is there for who may: the same question from a pod that reaches it.
    pod = events.pod("signup-pipeline")
    probe = f"import socket; socket.create_connection(('{address}', 4222), 3)"
    events.kube.run(pod, "events", ["python3", "-c", probe])


@pytest.mark.parametrize(
    ("environment", "call", "refusal"),
    [
        ([], ["stream_info", "events"], None),
        ([], ["purge_stream", "events"], "permissions violation|timeout"),
        ([], ["delete_stream", "events"], "permissions violation|timeout"),
        (
            ["BUS_PASSWORD_FILE=/etc/hostname"],
            ["stream_info", "events"],
            "no connection to the bus",
        ),
        (["BUS_USER=admin"], ["stream_info", "events"], "no connection to the bus"),
    ],
    ids=["a look is allowed", "purge", "delete", "wrong password", "administrator"],
)
def test_a_client_may_publish_and_take_and_no_more(
    events: Events, environment: list[str], call: list[str], refusal: str | None
) -> None:
    patience = "30" if refusal is None else "5"
    command = ["env", *environment, "python3", "-c", FORBIDDEN, patience, *call]
    pod = events.pod("signup-pipeline")
    if refusal is None:
        assert "done" in events.kube.run(pod, "events", command)
        return
    with pytest.raises(ExecError, match=f"(?i){refusal}"):
        events.kube.run(pod, "events", command, 40)


def test_nats_finds_its_configuration_valid(events: Events) -> None:
    pod = events.pod("bus")
    check = ["nats-server", "-t", "-c", "/etc/nats/nats.conf"]
    assert events.kube.run(pod, "nats", check) == ""
    # It would say so if it were not.
    broken = "echo 'listen: [' > /data/broken.conf; nats-server -t -c /data/broken.conf"
    with pytest.raises(ExecError):
        events.kube.run(pod, "nats", ["sh", "-c", broken])


def test_secrets_are_in_secrets_only(events: Events) -> None:
    token = events.outputs["token"]
    found = {
        kind: str(events.kube.objects(version, kind, events.namespace))
        for version, kind in (("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("v1", "Pod"))
    }
    for kind, text in found.items():
        assert token not in text, f"the gateway's token is in a {kind}"
    assert "def two_factor(context" in found["ConfigMap"], "the function's source is not there"
    pod = events.pod("two-factor")
    assert events.kube.run(pod, "two-factor", ["cat", "/etc/sms/token"]) == token
    assert token not in events.kube.run(pod, "two-factor", ["env"])
    assert token not in events.kube.logs(pod, "two-factor")


def test_another_generation_of_passwords_interrupts_no_event(events: Events) -> None:
    def password() -> str:
        pod = events.pod("signup-pipeline")
        return events.kube.run(pod, "events", ["cat", PASSWORD_FILE])

    def logged_in(user: str, word: str) -> str:
        pod = events.pod("signup-pipeline")
        return events.kube.run(pod, "events", ["python3", "-c", LOGIN, user, word]).strip()

    former = password()
    published: list[dict[str, Any]] = []

    def publish(until: Future[Update]) -> None:
        while not until.done() or len(published) < 20:
            some = batch(5)
            answer = events.ask("publish", url=events.outputs["signup"], events=some)
            assert answer["missing"] == []
            published.extend(some)
            # What the steps manage while everything is replaced around them.
            time.sleep(0.5)

    with ThreadPoolExecutor(1) as workers:
        update = workers.submit(events.stack.up, generation=2)
        publish(update)
        update.result()
    events.settled(ways(published), [event["id"] for event in published], 120)
    assert password() != former
    # Who has not been replaced yet goes on.
    assert logged_in("client", former) == "in"
    assert logged_in("client-2", password()) == "in"
    events.stack.up(keep_former=False)
    assert logged_in("client", former) == "refused"
    assert logged_in("client-2", password()) == "in"
    (last,) = batch(1)
    assert events.ask("publish", url=events.outputs["signup"], events=[last])["missing"] == []
    events.settled(ways([last]), [last["id"]], 90)
