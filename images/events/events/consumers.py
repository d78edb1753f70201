"""What the bus remembers of each subscription: made, made again, and removed."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import nats.js.errors
from nats.js import api

from events import bus, rules

if TYPE_CHECKING:
    from nats.js import JetStreamContext

ACK_SECONDS = 10
"""Without a sign of life for this long, the bus gives an event to another of these programs."""
REMOVED_SECONDS = 3700
"""Longer than a delivery may take: a subscription from which nobody has taken anything for as long,
and that no subscriber's configuration has, was removed."""


class Consumers:
    """The consumers of one subscriber."""

    def __init__(
        self,
        stream: "JetStreamContext",
        name: str,
        subscriptions: Iterable[rules.Subscription],
        clock: Any = time.monotonic,
    ) -> None:
        self._stream = stream
        self._name = name
        self._subscriptions = {rules.consumer(name, one.name): one for one in subscriptions}
        self._clock = clock
        self._there: set[str] = set()
        self._unused: dict[str, tuple[Any, float]] = {}
        self._age = 0.0
        self.waiting: dict[str, int] = {}
        """Events by subscription that are not acknowledged, as last seen."""

    @property
    def complete(self) -> bool:
        """Whether the bus keeps events for every subscription."""
        return self._there >= self._subscriptions.keys()

    async def keep(self) -> None:
        """Make those that are not there; one that was deleted as well.

        :raises nats.errors.Error: the bus is away, or has no streams yet
        """
        if not self._age:
            info = await self._stream.stream_info(rules.EVENTS)
            self._age = float(info.config.max_age or 0)
        for durable, one in self._subscriptions.items():
            try:
                if durable not in self._there:
                    await self._made(durable, one)
                info = await self._stream.consumer_info(rules.EVENTS, durable, timeout=5)
            except nats.js.errors.NotFoundError:
                # By hand, or by a bus without its volume.
                bus.say("its place is gone from the bus, and made again", step=one.name)
                self._there.discard(durable)
                await self._made(durable, one)
                continue
            self._there.add(durable)
            self.waiting[one.name] = int(info.num_pending or 0) + int(info.num_ack_pending or 0)

    async def _made(self, durable: str, one: rules.Subscription) -> None:
        # One that is there is changed to this.
        await self._stream.add_consumer(
            rules.EVENTS,
            api.ConsumerConfig(
                durable_name=durable,
                filter_subject=f"{rules.EVENTS}.{one.topic}",
                deliver_policy=api.DeliverPolicy.ALL,
                ack_policy=api.AckPolicy.EXPLICIT,
                ack_wait=ACK_SECONDS,
                # Attempts are counted here: the bus would only stop, and tell nobody who must know.
                max_deliver=-1,
                # Those that wait for their next attempt must not hold up the others.
                max_ack_pending=10_000,
                # Its events are gone by then.
                inactive_threshold=self._age or None,
            ),
        )
        self._there.add(durable)

    async def remove(self) -> None:
        """Delete those of this subscriber that its configuration has no more.

        Pods of the configuration before may still take from them, so they must be unused for long;
        and pods of the next one may have made some that this one does not know yet.
        """
        prefix = rules.consumer(self._name, "")
        seen = {}
        for info in await self._stream.consumers_info(rules.EVENTS):
            if info.name.startswith(prefix) and info.name not in self._subscriptions:
                state = (info.delivered.consumer_seq if info.delivered else 0, info.num_waiting)
                known, since = self._unused.get(info.name, (None, self._clock()))
                same = known == state and not info.num_waiting
                seen[info.name] = (state, since if same else self._clock())
        self._unused = seen
        for durable, (_, since) in [*seen.items()]:
            if self._clock() - since >= REMOVED_SECONDS:
                await self._stream.delete_consumer(rules.EVENTS, durable)
                bus.say("a removed subscription's place is deleted", consumer=durable)

    async def wanted(self, topic: str) -> bool:
        """Whether anybody subscribes to a topic; what nobody does the bus does not keep."""
        if any(one.topic == topic for one in self._subscriptions.values()):
            return self.complete
        return await subscribed(self._stream, topic)


async def subscribed(stream: "JetStreamContext", topic: str) -> bool:
    """Whether the bus keeps a topic's events for anybody.

    :raises nats.errors.Error: the bus did not answer
    """
    subject = f"{rules.EVENTS}.{topic}"
    found = await stream.consumers_info(rules.EVENTS)
    return any(one.config.filter_subject == subject for one in found)
