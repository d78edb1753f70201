"""What delivers events, with a real NATS and steps that answer as none should."""

import asyncio
import gzip
import json
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from tests.unit.support import bus as buses
from tests.unit.support.bus import Bus, needs_nats, subscription
from tests.unit.support.wire import answered, begun, chunked, raw_server

pytestmark = needs_nats
JSON = "Content-Type: application/json"


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with buses.server(tmp_path_factory.mktemp("nats")) as port:
        yield port


async def delivered(bus: Bus, one: Any, data: Any, times: int = 1, **following: Any) -> None:
    """Publish an event to a step, and let it be delivered so often."""
    await bus.consumers("p", one, *following.values()).keep()
    await bus.publish(one.topic, data)
    for _ in range(times):
        await bus.deliverer("p").handle(await bus.take("p", one))


def pair(url: str, **more: Any) -> tuple[Any, Any]:
    """A step, and the one that follows it."""
    first = subscription("a", "p.a", url, required={"b": "p.b"}, first_delay=0.01, **more)
    return first, subscription("b", "p.b", url)


LONG = {"text": "x" * 200_000}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(chunked(b'{"half": ', b"1}", whole=True), id="in two chunks"),
        pytest.param(answered(json.dumps(LONG).encode(), JSON), id="200 kB"),
        pytest.param(
            [answered(b'{"half":', JSON, length=11), b" 1}"], id="in two writes",
        ),
    ],
)  # fmt: skip
def test_the_whole_answer_reaches_the_next_step(nats: int, answer: Any) -> None:
    async def body(bus: Bus) -> None:
        with raw_server(answer) as step:
            first, second = pair(step.url)
            await delivered(bus, first, {"id": 1}, b=second)
            got = await bus.take("p", second)
            expected = LONG if b"xxx" in b"".join(answer if isinstance(answer, list) else [answer]) else {"half": 1}  # fmt: skip
            assert json.loads(got.message.data) == {"id": 1, **expected}

    buses.run(nats, body)


@pytest.mark.parametrize(
    "answer",
    [answered(b'{"a": 1}', JSON, length=100), chunked(b'{"a": 1}', whole=False, headers=[JSON])],
    ids=["length", "chunks"],
)
def test_an_answer_that_is_cut_short_is_a_failed_attempt(nats: int, answer: bytes) -> None:
    async def body(bus: Bus) -> None:
        with raw_server(answer, answered(b'{"b": 2}', JSON)) as step:
            first, second = pair(step.url)
            await delivered(bus, first, {}, times=2, b=second)
            got = await bus.take("p", second)
            assert json.loads(got.message.data) == {"b": 2}
            assert bus.metrics.deliveries == Counter({("a", "failed"): 1, ("a", "ok"): 1})

    buses.run(nats, body)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answered(b"[" * 100_000), "nested too deeply"),
        (answered(b'{"a": NaN}', JSON), "is invalid"),
        (answered(b"x" * 600_000), "more than 524288 bytes"),
        (answered(gzip.compress(b"{}"), "Content-Encoding: gzip"), "Content-Encoding gzip"),
        (answered(json.dumps({"more": "y" * 500_000}).encode()), "the maximum is"),
    ],
    ids=["deep", "NaN", "long", "gzip", "outgrown"],
)
def test_what_would_fail_each_time_is_a_dead_letter_at_once(
    nats: int, answer: bytes, reason: str
) -> None:
    async def body(bus: Bus) -> None:
        with raw_server(answer) as step:
            first, second = pair(step.url)
            event = {"data": "z" * 510_000} if "maximum" in reason else {"data": 1}
            bus.longest = min(bus.longest, 1_000_000)
            await delivered(bus, first, event, b=second)
            (letter,) = await bus.stored("dead")
            assert json.loads(letter.data) == event
            assert reason in letter.headers["dds-reason"]
            assert letter.headers["dds-attempts"] == "1"
            assert not await bus.stored("events")

    buses.run(nats, body)


def test_a_message_that_is_no_json_is_a_dead_letter_and_the_worker_goes_on(nats: int) -> None:
    async def body(bus: Bus) -> None:
        with raw_server(answered(b"")) as step:
            one = subscription("a", "p.a", step.url)
            await bus.consumers("p", one).keep()
            await bus.stream.publish("events.p.a", b"\xff no json")
            await bus.publish("p.a", b"[" * 100_000, event="deep")
            await bus.publish("p.a", {}, event="good")
            worker = asyncio.create_task(bus.deliverer("p").work(one))
            while not bus.metrics.deliveries["a", "ok"]:
                await asyncio.sleep(0.01)
            assert not worker.done()
            worker.cancel()
            letters = await bus.stored("dead")
            assert [one.data[:3] for one in letters] == [b"\xff n", b"[[["]
            # One without an id is called after its place.
            assert letters[0].headers["ce-id"].startswith("sequence-")
            assert len(step.requests) == 1

    buses.run(nats, body)


def test_an_error_of_its_own_does_not_end_a_worker(
    nats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(bus: Bus) -> None:
        one = subscription("a", "p.a", "http://127.0.0.1:1/")
        await bus.consumers("p", one).keep()
        await bus.publish("p.a", {})
        await bus.publish("p.a", {}, event="e2")
        deliverer, seen = bus.deliverer("p"), asyncio.Semaphore(0)

        async def handle(_: Any) -> None:
            seen.release()
            raise ZeroDivisionError

        monkeypatch.setattr(deliverer, "handle", handle)
        worker = asyncio.create_task(deliverer.work(one))
        await seen.acquire()
        await seen.acquire()
        assert not worker.done()
        worker.cancel()

    buses.run(nats, body)


def test_a_worker_that_ends_ends_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> int:
        made = program()

        async def broken() -> None:
            raise ZeroDivisionError("gone")

        made._tasks = {asyncio.create_task(broken())}
        status: int = await made._ended()
        return status

    assert asyncio.run(main()) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out


def program(*subscriptions: Any) -> Any:
    """The whole, without what it does before its tasks are made."""
    made = buses.program("deliver").Program(
        {"name": "p", "accepts": {}, "firsts": {}, "subscriptions": []}
    )
    made._subscriptions = list(subscriptions)
    made._connection = SimpleNamespace(is_connected=True)
    return made


def test_a_program_is_not_ready_without_one_of_its_workers() -> None:
    async def main() -> list[int]:
        made = program()
        made._consumers = SimpleNamespace(complete=True)
        forever, short = (asyncio.create_task(asyncio.sleep(one)) for one in (3600, 0))
        made._tasks = {forever, short}
        statuses = [(await made._ready(None)).status]
        await short
        statuses.append((await made._ready(None)).status)
        forever.cancel()
        return statuses

    assert asyncio.run(main()) == [200, 503]


def test_a_stop_waits_for_the_slowest_step(monkeypatch: pytest.MonkeyPatch) -> None:
    deliver = buses.program("deliver")
    monkeypatch.setattr(deliver, "_FETCH_SECONDS", 0)
    monkeypatch.setattr(deliver, "_LONGEST_PAUSE_SECONDS", 0)

    async def main() -> bool:
        made = program(subscription("a", "p.a", "http://x/", timeout=600))
        step = asyncio.create_task(asyncio.sleep(0.2))
        made._tasks = {step}
        made._stopping.set()
        await made._ended()
        return step.done() and not step.cancelled()

    assert asyncio.run(main())


def test_places_are_looked_after_until_the_stop() -> None:
    looks: list[bool] = []

    async def main() -> None:
        made = program()

        async def keep() -> None:
            looks.append(True)
            made._stopping.set()

        made._consumers = SimpleNamespace(complete=True, keep=keep)
        await asyncio.wait_for(made._upkeep(), 60)

    asyncio.run(main())
    assert looks


def test_a_message_that_is_too_long_for_a_letter_is_cut(nats: int) -> None:
    async def body(bus: Bus) -> None:
        one = subscription("a", "p.a", "http://127.0.0.1:1/")
        await bus.consumers("p", one).keep()
        await bus.publish("p.a", b"x" * 2000)
        bus.longest = 1000
        await bus.deliverer("p").handle(await bus.take("p", one))
        (letter,) = await bus.stored("dead")
        assert letter.data == b"x" * 1000

    buses.run(nats, body)


def test_pipelines_with_a_step_of_one_name_both_run(nats: int) -> None:
    async def body(bus: Bus) -> None:
        with raw_server(answered(b"")) as step:
            for name in ("p", "q"):
                first = subscription("a", f"{name}.a", step.url, required={"b": f"{name}.b"})
                second = subscription("b", f"{name}.b", step.url)
                await bus.consumers(name, first, second).keep()
                await bus.publish(first.topic, {})
                for one in (first, second):
                    await bus.deliverer(name).handle(await bus.take(name, one))
            keys = [
                line.partition(b": ")[2].decode()
                for request in step.requests
                for line in request.split(b"\r\n")
                if line.lower().startswith(b"idempotency-key")
            ]
            assert keys == ["e1/p/a", "e1/p/a/b", "e1/q/a", "e1/q/a/b"]

    buses.run(nats, body)


def test_an_event_that_is_dead_twice_is_two_letters(nats: int) -> None:
    async def body(bus: Bus) -> None:
        with raw_server(answered(b"", status="500 Broken")) as step:
            one = subscription("a", "p.a", step.url, attempts=1)
            for _ in range(2):
                await delivered(bus, one, {})
            assert len(await bus.stored("dead")) == 2

    buses.run(nats, body)


def replaying(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], Awaitable[list[tuple[bool, str | None]]]]:
    """What replays the letters of event e1: of each, whether that was done, or why not."""
    trace = buses.program("trace")

    async def connected(*_: Any) -> Any:
        return await bus.again()

    monkeypatch.setattr(trace, "_connected", connected)

    async def replayed() -> list[tuple[bool, str | None]]:
        await trace.dead("e1", True)
        lines = map(json.loads, capsys.readouterr().out.splitlines())
        return [(line["replayed"], line.get("why")) for line in lines if "replayed" in line]

    return replayed


def test_a_letter_is_replayed_once_and_again_when_it_failed_again(
    nats: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def body(bus: Bus) -> None:
        replay = replaying(bus, monkeypatch, capsys)

        async def replayed() -> list[bool]:
            return [done for done, _ in await replay()]

        broken = answered(b"", status="500 Broken")
        with raw_server(broken, broken, answered(b"")) as step:
            one = subscription("a", "p.a", step.url, attempts=1)
            await delivered(bus, one, {"n": 1})
            assert await replayed() == [True]
            # The same letter once more is no second event.
            assert await replayed() == [False]
            await bus.deliverer("p").handle(await bus.take("p", one))
            # It failed again, and was repaired: that is another letter, and the first is settled.
            assert await replayed() == [False, True]
            again = await bus.take("p", one)
            assert (again.key, again.attempt) == ("e1/p/a", 1)
            assert json.loads(again.message.data) == {"n": 1}
            await bus.deliverer("p").handle(again)
            assert bus.metrics.deliveries["a", "ok"] == 1

    buses.run(nats, body)


def test_a_letter_that_nobody_takes_any_more_is_not_called_replayed(
    nats: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def body(bus: Bus) -> None:
        replayed = replaying(bus, monkeypatch, capsys)
        with raw_server(answered(b"", status="500 Broken")) as step:
            one = subscription("a", "p.a", step.url, attempts=1)
            await delivered(bus, one, {})
            durable = buses.program("rules").consumer("p", "a")
            await bus.stream.delete_consumer("events", durable)
            assert await replayed() == [(False, "p.a has no subscription")]
            assert await bus.stored("events") == []
            # Back again, it gets it: nothing was taken for known.
            await bus.consumers("p", one).keep()
            assert await replayed() == [(True, None)]
            assert (await bus.take("p", one)).event == "e1"

    buses.run(nats, body)


def test_what_expires_while_it_is_read_is_not_waited_for(
    nats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = buses.program("trace")
    # It would be waited for in vain.
    monkeypatch.setattr(trace, "_FETCH_SECONDS", 60, raising=False)

    async def body(bus: Bus) -> None:
        for number in range(120):
            await bus.stream.publish("records.e1", str(number).encode())
        add = bus.stream.add_consumer

        async def added(*given: Any, **more: Any) -> Any:
            info = await add(*given, **more)
            await bus.stream.purge_stream("records", keep=5)
            return info

        monkeypatch.setattr(bus.stream, "add_consumer", added)
        found = await trace.messages(bus.stream, "records", "records.e1")
        assert [one.data for one in found] == [str(n).encode() for n in range(115, 120)]
        await bus.stream.purge_stream("records")
        await bus.stream.publish("records.e1", b"last")

        async def emptied(*given: Any, **more: Any) -> Any:
            info = await add(*given, **more)
            await bus.stream.purge_stream("records")
            return info

        monkeypatch.setattr(bus.stream, "add_consumer", emptied)
        assert await trace.messages(bus.stream, "records", "records.e1") == []

    buses.run(nats, body)


def test_a_full_bus_repeats_no_step_and_delivers_all(nats: int) -> None:
    async def body(bus: Bus) -> None:
        calls: Counter[str] = Counter()

        async def answer(request: web.Request) -> web.Response:
            await request.read()
            calls[request.headers["idempotency-key"]] += 1
            return web.json_response({"more": "y" * 4000})

        async with served(answer) as url:
            first = subscription("a", "p.a", f"{url}/a", required={"b": "p.b"}, in_flight=8)
            second = subscription("b", "p.b", f"{url}/b")
            consumers = bus.consumers("p", first, second)
            await consumers.keep()
            async with served(bus.front("p", {"go": "p.a"}, consumers).publish) as front:
                statuses, ids = Counter[int](), []
                for number in range(400):
                    async with bus.http.post(
                        f"{front}/events/go", data=json.dumps({"text": "x" * 6000}),
                        headers={"ce-id": f"e{number}"},
                    ) as given:  # fmt: skip
                        statuses[given.status] += 1
                        ids += [f"e{number}"] if given.status == 202 else []
                # Full: what is new is refused, and about a MiB was taken.
                assert statuses.keys() == {202, 503}
                assert 140 < statuses[202] < 175
                # The server itself refuses now what is passed on, until events are acknowledged.
                await bus.publish("p.b", b'"%s"' % (b"y" * 900_000), event="filler")
                deliverer = bus.deliverer("p")
                workers = [asyncio.create_task(deliverer.work(first)) for _ in range(8)]
                while not bus.metrics.without_room["a"]:
                    await asyncio.sleep(0.01)
                assert not bus.metrics.deliveries["a", "failed"]
                workers += [asyncio.create_task(deliverer.work(second)) for _ in range(4)]
                while bus.metrics.deliveries["b", "ok"] < len(ids) + 1:
                    await asyncio.sleep(0.02)
                del calls["filler/p/b"]
                assert calls == Counter(f"{one}/p/{way}" for one in ids for way in ("a", "a/b"))
                assert not await bus.stored("dead")
                # What was delivered has made room.
                async with bus.http.post(f"{front}/events/go", data=b"{}") as given:
                    assert given.status == 202
                for worker in workers:
                    worker.cancel()

    buses.run(nats, body)


class served:  # noqa: N801 (used as a function)
    """An aiohttp handler on the loopback, as the program runs it."""

    def __init__(self, handler: Any) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/events/{name}", handler)
        app.router.add_post("/{path}", handler)
        self._runner = web.AppRunner(app, access_log=None, auto_decompress=False)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def test_a_stop_while_the_bus_is_full_gives_the_event_back(
    nats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It comes again because it was given back, and not because nothing was heard of it.
    monkeypatch.setattr(buses.program("consumers"), "ACK_SECONDS", 3600)

    async def body(bus: Bus) -> None:
        with raw_server(answered(b'{"more": "%s"}' % (b"z" * 400_000))) as step:
            first, second = pair(step.url)
            await bus.consumers("p", first, second).keep()
            await bus.publish("p.a", {})
            for number in range(2):
                await bus.publish("p.b", b'"%s"' % (b"y" * 900_000), event=f"filler{number}")
            delivery = await bus.take("p", first)
            work = asyncio.create_task(bus.deliverer("p").handle(delivery))
            while not bus.metrics.without_room["a"]:
                await asyncio.sleep(0.01)
            bus.stopping.set()
            await work
            again = await bus.take("p", first)
            assert again.attempt == 2
            assert not await bus.stored("dead")

    buses.run(nats, body)


# The bus's places


def test_a_place_that_was_deleted_is_made_again(nats: int) -> None:
    async def body(bus: Bus) -> None:
        one = subscription("a", "p.a", "http://x/")
        consumers = bus.consumers("p", one)
        assert not consumers.complete
        await consumers.keep()
        assert consumers.complete
        await bus.stream.delete_consumer("events", "p_a")
        await consumers.keep()
        assert consumers.complete
        await bus.publish("p.a", {})
        assert (await bus.take("p", one)).event == "e1"

    buses.run(nats, body)


def test_the_place_of_a_removed_subscription_goes_when_nobody_uses_it(nats: int) -> None:
    async def body(bus: Bus) -> None:
        old, kept = subscription("old", "t", "http://x/"), subscription("a", "t", "http://x/")
        other = subscription("a", "t", "http://x/")
        await bus.consumers("p", old, kept).keep()
        await bus.consumers("p-b", other).keep()
        now = 0.0
        consumers = bus.consumers("p", kept, clock=lambda: now)
        await consumers.keep()
        await bus.publish("t", {})
        await consumers.remove()
        now = 3000.0
        # A pod of the configuration before still takes from it.
        assert (await bus.take("p", old)).event == "e1"
        await consumers.remove()
        now = 6600.0
        await consumers.remove()
        assert {one.name for one in await bus.stream.consumers_info("events")} == {
            "p_old", "p_a", "p-b_a",
        }  # fmt: skip
        now = 6701.0
        await consumers.remove()
        assert {one.name for one in await bus.stream.consumers_info("events")} == {
            "p_a", "p-b_a",
        }  # fmt: skip

    buses.run(nats, body)


# The front


async def posted(bus: Bus, body: Any, **headers: str) -> tuple[int, str]:
    one = subscription("a", "p.a", "http://x/")
    consumers = bus.consumers("p", one)
    await consumers.keep()
    async with (
        served(bus.front("p", {"go": "p.a"}, consumers).publish) as url,
        bus.http.post(f"{url}/events/go", data=body, headers=headers) as given,
    ):
        return given.status, await given.text()


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (json.dumps("ж" * 200_000, ensure_ascii=False).encode(), "", 202),
        (gzip.compress(b'{"a": 1}'), "gzip", 202),
        (gzip.compress(b" " * 50_000_000), "gzip", 413),
        (gzip.compress(b'{"a": 1}')[:-9], "gzip", 400),
        (b"no gzip", "gzip", 400),
        (b"{}", "br", 400),
        (b"x" * 600_000, "", 413),
        (b"[" + b"1e9," * 120_000 + b"1]", "", 413),
        (b'{"a": 1e999}', "", 400),
        (b'{"a": -Infinity}', "", 400),
    ],
    ids=["Cyrillic", "gzip", "bomb", "half", "none", "unknown", "long", "grows", "1e999", "inf"],
)
def test_what_cannot_be_stored_or_delivered_is_refused(
    nats: int, body: bytes, encoding: str, status: int
) -> None:
    async def test(bus: Bus) -> None:
        bus.longest = min(bus.longest, 1_000_000)
        headers = {"content-encoding": encoding} if encoding else {}
        assert (await posted(bus, body, **headers))[0] == status
        assert len(await bus.stored("events")) == (status == 202)

    buses.run(nats, test)


def test_no_more_of_a_bomb_is_unpacked_than_an_event_may_have() -> None:
    front, rules = buses.program("front"), buses.program("rules")
    bomb = bytearray(gzip.compress(b" " * 50_000_000))
    tracemalloc.start()
    try:
        request = SimpleNamespace(headers={"content-encoding": "gzip"})
        assert len(front._plain(request, bomb)) == rules.MOST_BYTES + 1
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_an_event_that_nobody_subscribes_to_is_not_accepted(nats: int) -> None:
    async def body(bus: Bus) -> None:
        consumers = bus.consumers("p")
        await consumers.keep()
        front = bus.front("p", {"go": "p.a"}, consumers)
        async with served(front.publish) as url:
            async with bus.http.post(f"{url}/events/go", data=b"{}") as given:
                assert (given.status, "no subscription" in await given.text()) == (503, True)
            await bus.consumers("q", subscription("a", "p.a", "http://x/")).keep()
            async with bus.http.post(f"{url}/events/go", data=b"{}") as given:
                assert given.status == 202

    buses.run(nats, body)


def test_bodies_count_when_they_arrive_and_have_a_deadline(
    nats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = buses.program("front")

    async def body(bus: Bus) -> None:
        consumers = bus.consumers("p", subscription("a", "p.a", "http://x/"))
        await consumers.keep()
        made = bus.front("p", {"go": "p.a"}, consumers)
        async with served(made.publish) as url:
            port = int(url.rpartition(":")[2])
            head = b"POST /events/go HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
            monkeypatch.setattr(front, "MOST_BODY_BYTES", 100_000)
            with begun(port, head + b"x" * 60_000, count=2):
                # Neither is complete, and there is no room for both.
                while made._body_bytes > 60_000 or not made._body_bytes:
                    await asyncio.sleep(0.01)
                async with bus.http.post(f"{url}/events/go", data=b"1" * 50_000) as given:
                    assert given.status == 503
            while made._body_bytes:
                await asyncio.sleep(0.01)
            monkeypatch.setattr(front, "BODY_SECONDS", 0.05)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + b"x")
            assert b" 408 " in await reader.readline()
            writer.close()
            assert not await bus.stored("events")

    buses.run(nats, body)


def test_a_stream_of_an_earlier_version_is_made_anew_once_all_is_delivered(
    nats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = buses.program("setup")

    async def body(bus: Bus) -> None:
        config = (await bus.stream.stream_info("events")).config
        await bus.stream.delete_stream("events")
        config.retention = "limits"
        await bus.stream.add_stream(config)
        one = subscription("a", "p.a", "http://x/")
        await bus.consumers("p", one).keep()
        await bus.publish("p.a", {})
        (wanted, *_) = setup.streams(
            {"events_mib": 1, "keep_hours": 1, "dead_mib": 1, "keep_dead_hours": 1,
             "records_mib": 1, "duplicate_seconds": 60}
        )  # fmt: skip
        monkeypatch.setattr(setup, "_DRAIN_SECONDS", 1)
        with pytest.raises(SystemExit, match="undelivered events for p_a"):
            await setup._applied(bus.stream, wanted)
        await (await bus.take("p", one)).message.ack_sync()
        await setup._applied(bus.stream, wanted)
        made = await bus.stream.stream_info("events")
        assert (made.config.retention, made.state.messages) == ("interest", 0)

    buses.run(nats, body)
