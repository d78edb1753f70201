"""A real NATS server on the loopback, with the project's programs around it."""

import asyncio
import contextlib
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.ports import free_port

FOLDER = Path(__file__).parents[3] / "images" / "events"
BINARY = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
needs_nats = pytest.mark.skipif(
    BINARY is None, reason="nats-server is not installed (apt-get install nats-server)"
)


def program(name: str) -> Any:
    """One of the image's modules, such as ``deliver``."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return importlib.import_module(f"events.{name}")


@contextlib.contextmanager
def server(folder: Path) -> Iterator[int]:
    """A server with JetStream; its port."""
    port = free_port()
    process = subprocess.Popen(
        [str(BINARY), "--jetstream", "--addr", "127.0.0.1", "--port", str(port),
         "--store_dir", str(folder)],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield port
    finally:
        process.kill()
        process.wait()


class Bus:
    """A connection, the streams, and the parts of a subscriber."""

    def __init__(self, port: int, connection: Any, http: Any) -> None:
        self.port = port
        self.connection = connection
        self.stream = connection.jetstream(timeout=10)
        self.http = http
        self.longest = connection.max_payload - program("rules").MOST_HEADER_BYTES
        self.metrics = program("metrics").Metrics()
        self.stopping = asyncio.Event()

    async def again(self) -> Any:
        """Another connection."""
        nats: Any = importlib.import_module("nats")
        return await nats.connect(f"nats://127.0.0.1:{self.port}")

    async def setup(self, events_mib: int = 1) -> None:
        """Create the streams again."""
        plan = {
            "events_mib": events_mib, "keep_hours": 1, "dead_mib": 8, "keep_dead_hours": 1,
            "records_mib": 8, "duplicate_seconds": 600, "buckets": [],
        }  # fmt: skip
        for config in program("setup").streams(plan):
            with contextlib.suppress(program("bus").BUS_ERRORS):
                await self.stream.delete_stream(config.name)
            await self.stream.add_stream(config)

    def deliverer(self, name: str) -> Any:
        """A subscriber's deliverer."""
        return program("deliver").Deliverer(
            name, self.stream, self.http, self.metrics, self.stopping, self.longest
        )

    def consumers(self, name: str, *subscriptions: Any, **more: Any) -> Any:
        """Its consumers."""
        return program("consumers").Consumers(self.stream, name, subscriptions, **more)

    def front(self, name: str, accepts: Mapping[str, str], consumers: Any) -> Any:
        """The server to which clients publish."""
        return program("front").Front(
            name, accepts, {one: [] for one in accepts}, self.stream, consumers, self.metrics,
            self.longest,
        )  # fmt: skip

    async def publish(self, topic: str, data: Any, event: str = "e1", **headers: str) -> None:
        """Store an event as a front would; bytes are stored as they are."""
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        await self.stream.publish(f"events.{topic}", raw, headers={"ce-id": event, **headers})

    async def take(self, name: str, subscription: Any) -> Any:
        """The next event of a subscription, to be delivered."""
        durable = program("rules").consumer(name, subscription.name)
        source = await self.stream.pull_subscribe_bind(durable, stream="events")
        (message,) = await source.fetch(1, timeout=10)
        return program("deliver").Delivery(subscription, message, name, 0.0)

    async def stored(self, stream: str) -> list[Any]:
        """All messages of a stream: data and headers."""
        found = await program("trace").messages(self.stream, stream, f"{stream}.>")
        return [SimpleNamespace(data=one.data, headers=one.headers or {}) for one in found]


def subscription(name: str, topic: str, url: str, **more: Any) -> Any:
    """As in a subscriber's configuration file."""
    return program("rules").Subscription.of({"name": name, "topic": topic, "url": url, **more})


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Bus]:
    """A connection to the server, once it listens, and a client for steps."""
    nats: Any = importlib.import_module("nats")
    aiohttp: Any = importlib.import_module("aiohttp")
    connection = await nats.connect(
        f"nats://127.0.0.1:{port}", reconnect_time_wait=0.05, max_reconnect_attempts=-1,
        error_cb=_quiet,
    )  # fmt: skip
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        try:
            yield Bus(port, connection, http)
        finally:
            await connection.close()


async def _quiet(_: Exception) -> None:
    """Ignored: the server does not listen yet."""


def run(port: int, body: Callable[[Bus], Awaitable[None]]) -> None:
    """Run a test with a bus of one event's MiB."""

    async def main() -> None:
        async with connected(port) as bus:
            await bus.setup()
            await body(bus)

    asyncio.run(main())
