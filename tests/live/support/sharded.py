"""A deployed sharded store with its client, and what can be asked of it."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from components.values.ring import Ring
from tests.live.support.kube import InPod, Kube, Pod, now
from tests.live.support.nodes import Nodes
from tests.live.support.observed import Seen, seen
from tests.live.support.stacks import Stack
from tests.live.support.waiting import eventually

PROXY = "proxy"
CLIENT = "client"
REDIS = "redis"
STORE = "store"
CLIENT_SELECTOR = {"app.kubernetes.io/instance": CLIENT}


@dataclass(frozen=True)
class Watched:
    """What the client saw of each shard's keys during one fault."""

    groups: Mapping[str, Mapping[str, Any]]
    fault_at: float
    failing_before: tuple[int, ...] = ()
    """Shards that may fail before as well."""

    def shard(self, index: int) -> Seen:
        return seen(self.groups[str(index)], self.fault_at, index in self.failing_before)

    @property
    def others(self) -> list[int]:
        return [int(name) for name in self.groups]

    @property
    def acknowledged(self) -> dict[str, int]:
        """The last acknowledged number of every key."""
        return {
            key: number for group in self.groups.values() for key, number in
            group["acknowledged"].items()
        }  # fmt: skip

    @property
    def attempted(self) -> dict[str, int]:
        """The last number sent for every key."""
        return {
            key: number for group in self.groups.values() for key, number in
            group["attempted"].items()
        }  # fmt: skip


@dataclass(frozen=True)
class Sharded:
    """One variant of the program ``sharded``."""

    kube: Kube
    nodes: Nodes
    stack: Stack
    namespace: str
    topology: Mapping[str, Any]

    @property
    def shards(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.topology["shards"]
        return found

    @property
    def ring(self) -> Ring:
        """The model of the ring that the ambassador is told to use."""
        return Ring([shard["name"] for shard in self.shards], self.topology["hash"])

    @property
    def through(self) -> dict[str, Any]:
        """Where the client's program reaches its ambassador."""
        return {"host": "127.0.0.1", "port": 6379, **self.topology.get("login", {})}

    @property
    def direct(self) -> list[dict[str, Any]]:
        """Where the client's program reaches each shard by itself."""
        return [
            {"host": shard["host"], "port": shard["port"], **self.topology.get("login", {})}
            for shard in self.shards
        ]

    def client_pod(self) -> Pod:
        def condition() -> Pod | None:
            ready = [p for p in self.kube.pods(self.namespace, CLIENT_SELECTOR) if p.ready]
            return ready[0] if len(ready) == 1 else None

        found = eventually(
            condition, 90, lambda: f"one client is ready\n{self.kube.describe(self.namespace)}"
        )
        assert found is not None
        return found

    def client(self) -> InPod:
        return InPod(self.kube, self.client_pod(), CLIENT)

    def shard_pod(self, index: int, **ready: Any) -> Pod:
        return self.kube.ready_pod(self.namespace, f"{STORE}-{index}", **ready)

    def keys_by_shard(self, each: int, prefix: str) -> dict[str, list[str]]:
        """So many keys of every shard, by the shard's number."""
        ring = self.ring
        groups: dict[str, list[str]] = {str(index): [] for index in range(len(self.shards))}
        number = 0
        while any(len(keys) < each for keys in groups.values()):
            key = f"{prefix}:{number}"
            number += 1
            keys = groups[str(ring.index(key))]
            if len(keys) < each:
                keys.append(key)
        return groups

    def watch(
        self,
        prefix: str,
        seconds: float,
        fault: Callable[[], None],
        settle: float = 2.0,
        failing_before: tuple[int, ...] = (),
    ) -> Watched:
        """Traffic on all shards for ``seconds``; after ``settle`` of them ``fault`` is called."""
        groups = self.keys_by_shard(1200, prefix)
        client = self.client()
        traffic = client.start(
            "watch", at=self.through, seconds=seconds, groups=groups, pause=0.015, timeout=2
        )
        time.sleep(settle)
        fault_at = now()
        fault()
        return Watched(json.loads(traffic.output(seconds + 60)), fault_at, failing_before)

    def lost(self, watched: Watched) -> list[str]:
        """Acknowledged writes that cannot be read back, or under which something older stands."""
        acknowledged = watched.acknowledged
        keys = sorted(acknowledged)

        def read() -> list[Any]:
            values: list[Any] = self.client().ask("values", at=self.through, keys=keys)["values"]
            # A refused read says nothing of what is there.
            refused = [value for value in values if isinstance(value, dict)]
            assert not refused, refused[:3]
            return values

        values = eventually(read, 60, "every key can be read") if keys else []
        lost = []
        for key, value in zip(keys, values, strict=True):
            if not isinstance(value, str) or not (
                acknowledged[key] <= int(value) <= watched.attempted[key]
            ):
                lost.append(f"{key}: acknowledged {acknowledged[key]}, read {value}")
        return lost

    def answers(self, shard: int, key: str = "") -> bool:
        """Whether a write to the shard is answered with OK through the ambassador."""
        key = key or self.keys_by_shard(1, "answers")[str(shard)][0]
        reply = self.client().ask("steps", at=self.through, commands=[["SET", key, "1"]])
        return bool(reply["answers"][0]["answer"] == "OK")

    def recovered(self, timeout: float = 60) -> None:
        """Wait until every shard's pod is ready and answers through the ambassador."""
        for index in range(len(self.shards)):
            self.shard_pod(index, timeout=timeout)
            eventually(
                lambda index=index: self.answers(index),  # type: ignore[misc]
                timeout,
                f"shard {index} answers through the ambassador",
            )
