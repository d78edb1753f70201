"""`deliver`: takes events from the bus and posts each to the step that it is for.

An event is acknowledged when the step has answered with a status from 200 to 299 and all that
follows from it is stored. Otherwise it is delivered again, later each time, and after the last
attempt it goes to the dead letters. A delivery that this program did not live to finish counts as
an attempt as well, so that an event that kills its step ends there too.
"""

import asyncio
import contextlib
import json
import pathlib
import random
import signal
import time
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web
from nats.js import api

from events import bus, rules

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

CONFIG = "/etc/events/deliver.json"
ACK_SECONDS = 10
"""Without a sign of life for this long, the bus gives the event to another of these programs."""
_SIGN_SECONDS = 3
_FETCH_SECONDS = 5
_MOST_REASON = 300


class Metrics:
    """What is counted, for Prometheus."""

    def __init__(self) -> None:
        self.deliveries: Counter[tuple[str, str]] = Counter()
        self.seconds: Counter[str] = Counter()
        self.published = 0
        self.in_flight = 0

    def text(self, waiting: dict[str, int]) -> str:
        """In the text format."""
        lines = ["# TYPE events_deliveries_total counter"]
        for (step, outcome), count in sorted(self.deliveries.items()):
            lines.append(f'events_deliveries_total{{step="{step}",outcome="{outcome}"}} {count}')
        lines.append("# TYPE events_delivery_seconds_total counter")
        for step, seconds in sorted(self.seconds.items()):
            lines.append(f'events_delivery_seconds_total{{step="{step}"}} {seconds:.6f}')
        lines.append("# TYPE events_published_total counter")
        lines.append(f"events_published_total {self.published}")
        lines.append("# TYPE events_in_flight gauge")
        lines.append(f"events_in_flight {self.in_flight}")
        lines.append("# TYPE events_waiting gauge")
        for step, count in sorted(waiting.items()):
            lines.append(f'events_waiting{{step="{step}"}} {count}')
        return "\n".join(lines) + "\n"


class Deliverer:
    """All subscriptions of one configuration, and the front at which events are published."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.name: str = config["name"]
        self.accepts: dict[str, str] = config["accepts"]
        self.firsts: dict[str, list[str]] = config["firsts"]
        self.subscriptions = [rules.Subscription.of(one) for one in config["subscriptions"]]
        self.metrics = Metrics()
        self.ready = False
        self.waiting: dict[str, int] = {}
        self._stopping = asyncio.Event()
        self._connection: Client
        self._stream: JetStreamContext
        self._http: aiohttp.ClientSession

    # publishing

    async def publish(self, request: web.Request) -> web.Response:
        """POST /events/<name>: accepted when it is stored, and not before."""
        name = request.match_info["name"]
        if name not in self.accepts:
            return _answer(404, error=f"there is {', '.join(sorted(self.accepts)) or 'none'}")
        began = time.time()
        given = request.headers.get(rules.HEADER_ID) or request.headers.get(rules.HEADER_KEY)
        try:
            event, data = rules.published(
                request.headers.get("content-type", ""), await request.read(), given
            )
        except rules.BadEventError as error:
            return _answer(400, error=str(error))
        topic = self.accepts[name]
        headers = {rules.HEADER_ID: event, "ce-time": _rfc3339(began)}
        try:
            known = await bus.publish(
                self._stream, f"{rules.EVENTS}.{topic}", data, f"{event}/{topic}", headers
            )
        except bus.BUS_ERRORS as error:
            return _answer(503, error=f"not stored: {type(error).__name__}", id=event)
        if not known:
            self.metrics.published += 1
            await bus.keep(
                self._stream,
                rules.record("published", event, "", began, source=self.name, next=[
                    {"step": step, "kind": "required"} for step in self.firsts[name]]),
            )  # fmt: skip
        return _answer(202, id=event, known=known)

    # delivering

    async def subscribe(self, subscription: rules.Subscription) -> None:
        """Make the bus remember where this subscription is, and take events from there on."""
        durable = f"{self.name}-{subscription.name}"
        config = api.ConsumerConfig(
            durable_name=durable,
            filter_subject=f"{rules.EVENTS}.{subscription.topic}",
            deliver_policy=api.DeliverPolicy.ALL,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_SECONDS,
            # Attempts are counted here: the bus would only stop, and tell nobody who must know.
            max_deliver=-1,
            # Those that wait for their next attempt must not hold up the others.
            max_ack_pending=10_000,
        )
        await self._stream.add_consumer(rules.EVENTS, config)
        workers = [
            self._worker(durable, subscription, number) for number in range(subscription.in_flight)
        ]
        await asyncio.gather(*workers)

    async def _worker(self, durable: str, subscription: rules.Subscription, number: int) -> None:
        # An inbox for each: what one is sent, no other waits for.
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
            self.metrics.in_flight += 1
            try:
                await self._handle(subscription, message)
            except bus.BUS_ERRORS as error:
                # Not acknowledged, so it comes again.
                bus.say("deliver", step=subscription.name, worker=number,
                        error=f"{type(error).__name__}: {error}")  # fmt: skip
            finally:
                self.metrics.in_flight -= 1
        await source.unsubscribe()

    async def _handle(self, subscription: rules.Subscription, message: "Msg") -> None:
        headers = message.headers or {}
        event = headers.get(rules.HEADER_ID, "")
        path = rules.longer(headers.get(rules.HEADER_PATH, ""), subscription.name)
        attempt = message.metadata.num_delivered
        began = time.time()
        about: dict[str, Any] = {
            "source": self.name, "step": subscription.name,
            "attempt": attempt, "attempts": subscription.attempts,
        }  # fmt: skip
        if attempt > subscription.attempts:
            reason = "the last attempt did not come to an end"
            await self._bury(subscription, message, event, path, began, about, reason)
            return
        signs = asyncio.create_task(_signs(message))
        try:
            status, answer = await self._post(subscription, message, event, path, attempt)
        finally:
            signs.cancel()
        self.metrics.seconds[subscription.name] += time.time() - began
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            await self._go_on(subscription, message, event, path, began, about, status, answer)
        else:
            reason = f"status {status}" if status else answer.decode(errors="replace")
            if attempt >= subscription.attempts:
                await self._bury(subscription, message, event, path, began, about, reason)
            else:
                # Spread, so that what failed together does not come back together.
                delay = subscription.delay(attempt) * random.uniform(0.9, 1.1)  # noqa: S311
                self.metrics.deliveries[subscription.name, "failed"] += 1
                entry = rules.record("failed", event, path, began, reason=reason,
                                     again=round(delay, 3), **about)  # fmt: skip
                await bus.keep(self._stream, entry)
                await message.nak(delay=delay)

    async def _post(
        self,
        subscription: rules.Subscription,
        message: "Msg",
        event: str,
        path: str,
        attempt: int,
    ) -> tuple[int, bytes]:
        """Status and body; 0 and the reason where there is none."""
        headers = {
            "content-type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": event,
            "ce-source": f"/{self.name}",
            "ce-type": subscription.topic,
            "idempotency-key": rules.idempotency_key(event, path),
            "x-request-id": event,
            "dds-attempt": str(attempt),
        }
        if when := (message.headers or {}).get("ce-time"):
            headers["ce-time"] = when
        try:
            async with self._http.post(
                subscription.url,
                data=message.data,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=subscription.timeout),
                allow_redirects=False,
            ) as response:
                return response.status, await response.content.read(rules.MOST_BYTES)
        except TimeoutError:
            return 0, f"no answer within {subscription.timeout:g} s".encode()
        except (aiohttp.ClientError, OSError) as error:
            return 0, f"{type(error).__name__}: {error}"[:_MOST_REASON].encode()

    async def _go_on(
        self,
        subscription: rules.Subscription,
        message: "Msg",
        event: str,
        path: str,
        began: float,
        about: dict[str, Any],
        status: int,
        answer: bytes,
    ) -> None:
        data = rules.onward(json.loads(message.data), answer)
        following = subscription.following(data)
        headers = {rules.HEADER_ID: event, rules.HEADER_PATH: path}
        if when := (message.headers or {}).get("ce-time"):
            headers["ce-time"] = when
        entry = rules.record("ok", event, path, began, status=status, next=[
            {"step": one["step"], "kind": one["kind"]} for one in following], **about)  # fmt: skip
        await asyncio.gather(
            *(
                bus.publish(
                    self._stream,
                    f"{rules.EVENTS}.{one['topic']}",
                    data,
                    rules.idempotency_key(event, rules.longer(path, one["step"])),
                    headers,
                )
                for one in following
            ),
            bus.keep(self._stream, entry),
        )
        await message.ack()
        self.metrics.deliveries[subscription.name, "ok"] += 1

    async def _bury(
        self,
        subscription: rules.Subscription,
        message: "Msg",
        event: str,
        path: str,
        began: float,
        about: dict[str, Any],
        reason: str,
    ) -> None:
        headers = {
            **(message.headers or {}),
            "dds-reason": " ".join(reason.split())[:_MOST_REASON],
            "dds-attempts": str(about["attempt"]),
            "dds-topic": subscription.topic,
        }
        headers.pop(rules.HEADER_DEDUPLICATION, None)
        await bus.publish(
            self._stream,
            f"{rules.DEAD}.{self.name}.{subscription.name}",
            json.loads(message.data),
            f"dead/{rules.idempotency_key(event, path)}",
            headers,
        )
        await bus.keep(
            self._stream, rules.record("dead", event, path, began, reason=reason, **about)
        )
        await message.term()
        self.metrics.deliveries[subscription.name, "dead"] += 1
        bus.say("dead letter", step=subscription.name, id=event, reason=reason)

    # running

    async def _front(self, request: web.Request) -> web.Response:
        if request.path == "/healthz":
            return _answer(200, live=True)
        if request.path == "/readyz":
            ready = self.ready and self._connection.is_connected and not self._stopping.is_set()
            return _answer(200 if ready else 503, ready=ready)
        await self._look()
        return web.Response(text=self.metrics.text(self.waiting))

    async def _look(self) -> None:
        for one in self.subscriptions:
            with contextlib.suppress(*bus.BUS_ERRORS):
                info = await self._stream.consumer_info(
                    rules.EVENTS, f"{self.name}-{one.name}", timeout=1
                )
                self.waiting[one.name] = int(info.num_pending or 0) + int(info.num_ack_pending or 0)

    async def run(self) -> int:
        """Serve until SIGTERM; what is under way then is finished."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        self._connection = await bus.connect(self.name)
        self._stream = self._connection.jetstream(timeout=5)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30), auto_decompress=False
        )
        publishing = web.Application(client_max_size=rules.MOST_BYTES + 1024)
        publishing.router.add_post("/events/{name}", self.publish)
        watching = web.Application()
        for path in ("/healthz", "/readyz", "/metrics"):
            watching.router.add_get(path, self._front)
        runners = [web.AppRunner(app, access_log=None) for app in (publishing, watching)]
        for runner, port in zip(runners, (8080, 8081), strict=True):
            await runner.setup()
            await web.TCPSite(runner, port=port).start()
        work = [asyncio.create_task(self._kept_up(one)) for one in self.subscriptions]
        self.ready = True
        await self._stopping.wait()
        # Fetches end by themselves; what was fetched is finished.
        await asyncio.wait(work, timeout=_FETCH_SECONDS + 25) if work else None
        for runner in runners:
            await runner.cleanup()
        await self._http.close()
        await self._connection.close()
        return 0

    async def _kept_up(self, subscription: rules.Subscription) -> None:
        while not self._stopping.is_set():
            try:
                await self.subscribe(subscription)
            except bus.BUS_ERRORS as error:
                bus.say("subscribe", step=subscription.name,
                        error=f"{type(error).__name__}: {error}")  # fmt: skip
                await asyncio.sleep(1)


async def _signs(message: "Msg") -> None:
    """Tell the bus that the event is being worked on."""
    while True:
        await asyncio.sleep(_SIGN_SECONDS)
        with contextlib.suppress(*bus.BUS_ERRORS):
            await message.in_progress()


def _answer(status: int, **content: Any) -> web.Response:
    return web.json_response(content, status=status)


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


async def run() -> int:
    """Deliver as the configuration file says."""
    return await Deliverer(json.loads(pathlib.Path(CONFIG).read_text())).run()
