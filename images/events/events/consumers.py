"""The bus' consumers, one for each subscription: created, recreated and deleted."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import nats.js.errors
from nats.js import api

from events import bus, rules

if TYPE_CHECKING:
    from nats.js import JetStreamContext

ACK_SECONDS = 10
"""Seconds without an acknowledgement or progress after which the bus redelivers an event."""
REMOVED_SECONDS = 3700
"""Seconds without use after which a consumer that is not in the configuration is deleted. Longer than
any delivery."""


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
        self._existing: set[str] = set()
        self._unused: dict[str, tuple[Any, float]] = {}
        self._age = 0.0
        self.waiting: dict[str, int] = {}
        """Unacknowledged events by subscription, as of the last update."""

    @property
    def complete(self) -> bool:
        """Whether every subscription has its consumer."""
        return self._existing >= self._subscriptions.keys()

    async def keep(self) -> None:
        """Create missing consumers, also those that were deleted.

        :raises nats.errors.Error: the bus is unavailable, or has no streams yet
        """
        if not self._age:
            info = await self._stream.stream_info(rules.EVENTS)
            self._age = float(info.config.max_age or 0)
        for durable, one in self._subscriptions.items():
            try:
                if durable not in self._existing:
                    await self._create(durable, one)
                info = await self._stream.consumer_info(rules.EVENTS, durable, timeout=5)
            except nats.js.errors.NotFoundError:
                # Deleted by hand, or the bus has lost its volume.
                bus.say("the consumer is missing and is created again", step=one.name)
                self._existing.discard(durable)
                await self._create(durable, one)
                continue
            self._existing.add(durable)
            self.waiting[one.name] = int(info.num_pending or 0) + int(info.num_ack_pending or 0)

    async def _create(self, durable: str, one: rules.Subscription) -> None:
        # An existing consumer is updated.
        await self._stream.add_consumer(
            rules.EVENTS,
            api.ConsumerConfig(
                durable_name=durable,
                filter_subject=f"{rules.EVENTS}.{one.topic}",
                deliver_policy=api.DeliverPolicy.ALL,
                ack_policy=api.AckPolicy.EXPLICIT,
                ack_wait=ACK_SECONDS,
                # This program limits the attempts: the bus would stop without a dead letter.
                max_deliver=-1,
                # Events that wait for their next attempt must not block others.
                max_ack_pending=10_000,
                # By then its events have expired.
                inactive_threshold=self._age or None,
            ),
        )
        self._existing.add(durable)

    async def remove(self) -> None:
        """Delete this subscriber's consumers that are no longer in its configuration.

        During a rollout, pods of another configuration may use them, so they must be unused for a
        long time.
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
                bus.say("deleted the consumer of a removed subscription", consumer=durable)

    async def wanted(self, topic: str) -> bool:
        """Whether a topic has a subscription; the bus does not store events without one."""
        if any(one.topic == topic for one in self._subscriptions.values()):
            return self.complete
        return await subscribed(self._stream, topic)


async def subscribed(stream: "JetStreamContext", topic: str) -> bool:
    """Whether the topic has a consumer on the bus.

    :raises nats.errors.Error: the bus did not respond
    """
    subject = f"{rules.EVENTS}.{topic}"
    found = await stream.consumers_info(rules.EVENTS)
    return any(one.config.filter_subject == subject for one in found)
