"""`deliver`: fetches events from the bus and posts each to its step.

An event is acknowledged when the step's response has a status from 200 to 299 and the events for the
next steps are stored. Otherwise it is redelivered with a backoff, and after the last attempt it
becomes a dead letter. A delivery that was interrupted because this program was killed counts as an
attempt. A permanent error makes it a dead letter at once.
"""

import asyncio
import contextlib
import json
import pathlib
import random
import signal
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from events import bus, rules, step
from events.consumers import Consumers
from events.front import Front, answer
from events.metrics import Metrics

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

CONFIG = "/etc/events/deliver.json"
_PROGRESS_SECONDS = 3
_FETCH_SECONDS = 5
_UPKEEP_SECONDS = 5
_REMOVAL_ROUNDS = 12
_LONGEST_PAUSE_SECONDS = 5.0
"""Longest pause between retries of publishing to a bus that is full or unavailable."""
_MOST_REASON = 300


class StoppingError(Exception):
    """The program is shutting down before an event for the next step was stored."""


@dataclass(frozen=True)
class Delivery:
    """One delivery of an event to a step."""

    subscription: rules.Subscription
    message: "Msg"
    source: str
    """The subscriber."""
    began: float
    """Unix seconds."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the message."""
        return self.message.headers or {}

    @property
    def event(self) -> str:
        """Its id. A message without a valid id is named after its sequence number."""
        try:
            return rules.checked_id(self.headers.get(rules.HEADER_ID, ""))
        except rules.BadEventError:
            return f"sequence-{self.message.metadata.sequence.stream}"

    @property
    def path(self) -> str:
        """The steps so far, and this one."""
        return rules.longer(self.headers.get(rules.HEADER_PATH, ""), self.subscription.name)

    @property
    def key(self) -> str:
        """The idempotency key, which is the same for each attempt."""
        return rules.idempotency_key(self.event, self.source, self.path)

    @property
    def attempt(self) -> int:
        """Counted from 1, by the bus."""
        return int(self.message.metadata.num_delivered)

    def onward_headers(self) -> dict[str, str]:
        """Headers of the event for the next step."""
        headers = {rules.HEADER_ID: self.event, rules.HEADER_PATH: self.path}
        if when := self.headers.get("ce-time"):
            headers["ce-time"] = when
        return headers

    def posted(self) -> dict[str, str]:
        """Headers of the request."""
        headers = {
            "content-type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": self.event,
            "ce-source": f"/{self.source}",
            "ce-type": self.subscription.topic,
            "idempotency-key": self.key,
            "x-request-id": self.event,
            "dds-attempt": str(self.attempt),
        }
        if when := self.headers.get("ce-time"):
            headers["ce-time"] = when
        return headers

    def record(self, outcome: str, **more: Any) -> dict[str, Any]:
        """Its record for a trace."""
        return rules.record(
            outcome, self.event, self.path, self.began,
            source=self.source, step=self.subscription.name,
            attempt=self.attempt, attempts=self.subscription.attempts, **more,
        )  # fmt: skip


class Deliverer:
    """The subscriptions of one subscriber."""

    def __init__(
        self,
        name: str,
        stream: "JetStreamContext",
        http: aiohttp.ClientSession,
        metrics: Metrics,
        stopping: asyncio.Event,
        longest: int,
    ) -> None:
        """Describe it.

        :param longest: maximum bytes of an event's data on the bus
        """
        self._name = name
        self._stream = stream
        self._http = http
        self._metrics = metrics
        self._stopping = stopping
        self._longest = longest

    async def work(self, subscription: rules.Subscription) -> None:
        """Deliver one event after the other until shutdown."""
        durable = rules.consumer(self._name, subscription.name)
        # Each worker has its own inbox.
        source = await self._stream.pull_subscribe_bind(durable, stream=rules.EVENTS)
        while not self._stopping.is_set():
            try:
                (message,) = await source.fetch(1, timeout=_FETCH_SECONDS)
            except TimeoutError:
                continue
            except bus.BUS_ERRORS as error:
                bus.say("fetch", step=subscription.name, error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(1)
                continue
            self._metrics.in_flight += 1
            try:
                await self.handle(Delivery(subscription, message, self._name, time.time()))
            except Exception as error:  # noqa: BLE001 (one event must not end the worker)
                # Not acknowledged, so it is redelivered until its attempts are exhausted.
                bus.say("deliver", step=subscription.name, error=f"{type(error).__name__}: {error}")
            finally:
                self._metrics.in_flight -= 1
        await source.unsubscribe()

    async def handle(self, delivery: Delivery) -> None:
        """Deliver an event, and handle the response."""
        subscription = delivery.subscription
        if delivery.attempt > subscription.attempts:
            await self._dead_letter(delivery, "the last attempt was interrupted")
            return
        progress = asyncio.create_task(_report_progress(delivery.message))
        try:
            given = await self._post(delivery)
            if given.good:
                await self._succeed(delivery, given)
            elif delivery.attempt >= subscription.attempts:
                await self._dead_letter(delivery, given.reason)
            else:
                await self._retry(delivery, given.reason)
        except (rules.BadEventError, rules.PermanentError) as error:
            await self._dead_letter(delivery, str(error))
        except StoppingError:
            await delivery.message.nak(delay=subscription.first_delay)
        finally:
            progress.cancel()

    async def _post(self, delivery: Delivery) -> step.Answer:
        subscription = delivery.subscription
        # Invalid data is not posted.
        rules.decoded(delivery.message.data)
        began = time.monotonic()
        try:
            return await step.post(
                self._http, subscription.url, delivery.message.data, delivery.posted(),
                subscription.timeout,
                wanted=bool(subscription.required or subscription.optional),
            )  # fmt: skip
        finally:
            self._metrics.seconds[subscription.name] += time.monotonic() - began

    async def _retry(self, delivery: Delivery, reason: str) -> None:
        # With jitter, so that events which failed together are not redelivered together.
        delay = delivery.subscription.delay(delivery.attempt) * random.uniform(0.9, 1.1)  # noqa: S311
        self._metrics.deliveries[delivery.subscription.name, "failed"] += 1
        await bus.keep(
            self._stream, delivery.record("failed", reason=reason, again=round(delay, 3))
        )
        await delivery.message.nak(delay=delay)

    async def _succeed(self, delivery: Delivery, given: step.Answer) -> None:
        subscription = delivery.subscription
        data = rules.onward(rules.decoded(delivery.message.data), given.body, given.kind)
        following = subscription.following(data)
        try:
            stored = rules.encoded(data, self._longest) if following else b""
        except rules.BadEventError as error:
            raise rules.PermanentError(f"with the step's response: {error}") from None
        entry = delivery.record("ok", status=given.status, next=[
            {"step": one["step"], "kind": one["kind"]} for one in following])  # fmt: skip
        await asyncio.gather(
            *(self._publish_next(delivery, one["step"], one["topic"], stored) for one in following),
            bus.keep(self._stream, entry),
        )
        await delivery.message.ack()
        self._metrics.deliveries[subscription.name, "ok"] += 1

    async def _publish_next(self, delivery: Delivery, to: str, topic: str, data: bytes) -> None:
        """Publish an event for the next step; retries while the bus is full or unavailable.

        The step has succeeded, so this is not a failed attempt of it. Other events of the step wait
        meanwhile: the steps after it must free space.
        """
        name = delivery.subscription.name
        key = rules.idempotency_key(
            delivery.event, delivery.source, rules.longer(delivery.path, to)
        )
        pause = 0.2
        while True:
            try:
                await bus.publish(
                    self._stream, f"{rules.EVENTS}.{topic}", data, key, delivery.onward_headers()
                )
            except bus.BUS_ERRORS as error:
                bus.say("not published yet", step=name, to=to, id=delivery.event,
                        error=f"{type(error).__name__}: {error}")  # fmt: skip
            else:
                return
            self._metrics.without_room[name] += 1
            try:
                await asyncio.wait_for(self._stopping.wait(), pause)
            except TimeoutError:
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                raise StoppingError
            finally:
                self._metrics.without_room[name] -= 1

    async def _dead_letter(self, delivery: Delivery, reason: str) -> None:
        message, name = delivery.message, delivery.subscription.name
        headers = {
            **delivery.headers,
            rules.HEADER_ID: delivery.event,
            "dds-reason": " ".join(reason.split())[:_MOST_REASON],
            "dds-attempts": str(delivery.attempt),
            "dds-topic": delivery.subscription.topic,
        }
        await bus.publish(
            self._stream,
            f"{rules.DEAD}.{self._name}.{name}",
            # A message that is too long would close the connection.
            message.data[: self._longest],
            # One dead letter for each publication: an event that is replayed and fails again gets
            # another one.
            f"dead/{delivery.key}/{message.metadata.sequence.stream}",
            headers,
        )
        await bus.keep(self._stream, delivery.record("dead", reason=reason))
        await message.term()
        self._metrics.deliveries[name, "dead"] += 1
        bus.say("dead letter", step=name, id=delivery.event, reason=reason)


async def _report_progress(message: "Msg") -> None:
    """Report to the bus that the event is in progress."""
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        with contextlib.suppress(*bus.BUS_ERRORS):
            await message.in_report_progress()


class Program:
    """Workers, HTTP API, health and metrics."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._name: str = config["name"]
        self._subscriptions = [rules.Subscription.of(one) for one in config["subscriptions"]]
        self._metrics = Metrics()
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection: Client
        self._consumers: Consumers

    async def run(self) -> int:
        """Serve until SIGTERM, then finish the deliveries in flight."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stopping.set)
        self._connection = await bus.connect(self._name)
        stream = self._connection.jetstream(timeout=5)
        longest = self._connection.max_payload - rules.MOST_HEADER_BYTES
        self._consumers = Consumers(stream, self._name, self._subscriptions)
        http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30), auto_decompress=False
        )
        deliverer = Deliverer(self._name, stream, http, self._metrics, self._stopping, longest)
        front = Front(
            self._name, self._config["accepts"], self._config["firsts"],
            stream, self._consumers, self._metrics, longest,
        )  # fmt: skip
        runners = await self._served(front)
        self._tasks = {
            asyncio.create_task(work)
            for work in (
                self._upkeep(),
                *(deliverer.work(one) for one in self._subscriptions for _ in range(one.in_flight)),
            )
        }
        status = await self._ended()
        for runner in runners:
            await runner.cleanup()
        await http.close()
        await self._connection.close()
        return status

    async def _served(self, front: Front) -> list[web.AppRunner]:
        publishing = web.Application(client_max_size=rules.MOST_BYTES + 1024)
        publishing.router.add_post("/events/{name}", front.publish)
        watching = web.Application()
        watching.router.add_get("/healthz", self._live)
        watching.router.add_get("/readyz", self._ready)
        watching.router.add_get("/metrics", self._measured)
        # The front decompresses, with a limit.
        runners = [
            web.AppRunner(publishing, access_log=None, auto_decompress=False),
            web.AppRunner(watching, access_log=None),
        ]
        for runner, port in zip(runners, (8080, 8081), strict=True):
            await runner.setup()
            await web.TCPSite(runner, port=port).start()
        return runners

    async def _ended(self) -> int:
        """Wait for SIGTERM and then for deliveries in flight; a worker that ends earlier is an error."""
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({stopping, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        ended = [task for task in self._tasks if task.done()]
        if not self._stopping.is_set():
            self._stopping.set()
            for task in ended:
                bus.say("a worker has failed", error=repr(task.exception()))
            status = 1
        else:
            status = 0
        # Fetches time out; fetched events are delivered.
        longest = max((one.timeout for one in self._subscriptions), default=0)
        await asyncio.wait(self._tasks, timeout=_FETCH_SECONDS + longest + _LONGEST_PAUSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        return status

    async def _upkeep(self) -> None:
        """Keep this subscriber's consumers in line with its configuration."""
        rounds = 0
        while not self._stopping.is_set():
            try:
                await self._consumers.keep()
                rounds += 1
                if rounds % _REMOVAL_ROUNDS == 0:
                    await self._consumers.remove()
            except bus.BUS_ERRORS as error:
                bus.say("subscriptions", error=f"{type(error).__name__}: {error}")
            pause = _UPKEEP_SECONDS if self._consumers.complete else 1
            await _either(self._stopping.wait(), asyncio.sleep(pause))

    async def _live(self, _: web.Request) -> web.Response:
        return answer(200, live=True)

    async def _ready(self, _: web.Request) -> web.Response:
        ready = (
            self._connection.is_connected
            and self._consumers.complete
            and not self._stopping.is_set()
            and not any(task.done() for task in self._tasks)
        )
        return answer(200 if ready else 503, ready=ready)

    async def _measured(self, _: web.Request) -> web.Response:
        return web.Response(text=self._metrics.text(self._consumers.waiting))


async def _either(*waited: Coroutine[Any, Any, Any]) -> None:
    """Wait for the first of them."""
    tasks: Iterable[asyncio.Task[Any]] = [asyncio.create_task(one) for one in waited]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


async def run() -> int:
    """Deliver events according to the configuration file."""
    return await Program(json.loads(pathlib.Path(CONFIG).read_text())).run()
