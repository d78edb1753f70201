"""A deployed sharded store with its client, and requests to it."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dds_patterns.sharding import Ring
from tests.live.support.kube import ExecLostError, InPod, Kube, Pod, now
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
    """The client's observations of each shard's keys during one fault."""

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
class Told:
    """A client's observations at one moment."""

    pod: str
    """Its pod's uid."""
    shard: int
    outcome: str
    """``ok`` or the response instead."""
    at: float
    """Unix seconds."""


class Work:
    """A client's traffic on all shards, continued when its pod is replaced."""

    def __init__(self, store: "Sharded", prefix: str) -> None:
        self._store = store
        self._groups = store.keys_by_shard(100, prefix)
        self._told: list[Told] = []
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def told(self) -> Sequence[Told]:
        """All observations until now."""
        return tuple(self._told)

    def served_since(self, at: float, pod: str = "") -> set[int]:
        """The shards whose keys were served later than this, to the client in any pod or in one."""
        return {
            each.shard
            for each in self.told
            if each.outcome == "ok" and each.at > at and pod in ("", each.pod)
        }

    def stop(self) -> None:
        """Stop it; raises the error that occurred."""
        self._stopped.set()
        self._thread.join(180)
        if self._error is not None:
            raise self._error
        assert not self._thread.is_alive(), "the client does not end"

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._in_one_pod()
        except BaseException as error:  # noqa: BLE001 (raised where it is waited for)
            self._error = error

    def _in_one_pod(self) -> None:
        client = self._store.client()
        try:
            traffic = client.start(
                "tell", at=self._store.through, groups=self._groups, pause=0.03, timeout=2
            )
        except ExecLostError:
            # It is about to be replaced.
            time.sleep(0.2)
            return
        rest = ""
        running, told_to_end = True, False
        while running:
            if self._stopped.is_set() and not told_to_end:
                told_to_end = True
                # Once: an ended command takes no more input.
                traffic.send("")
            # Checked before the output is read: the last of it may arrive with the end.
            running = traffic.running
            *lines, rest = (rest + traffic.taken()).split("\n")
            for line in lines:
                seen = json.loads(line)
                self._told.append(
                    Told(client.pod.uid, int(seen["group"]), seen["outcome"], seen["at"])
                )
            time.sleep(0.2)


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
        """The model of the ambassador's ring."""
        return Ring([shard["name"] for shard in self.shards], self.topology["hash"])

    @property
    def through(self) -> dict[str, Any]:
        """The address of the ambassador for the client's program."""
        return {"host": "127.0.0.1", "port": 6379, **self.topology.get("login", {})}

    @property
    def direct(self) -> list[dict[str, Any]]:
        """The address of each shard for the client's program."""
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

    def ready_since(self, pod: Pod) -> float:
        """When a pod became ready, in whole Unix seconds."""
        status = self.kube.core.read_namespaced_pod(pod.name, pod.namespace).status
        (ready,) = (each for each in status.conditions if each.type == "Ready")
        return float(ready.last_transition_time.timestamp())

    def keys_by_shard(self, each: int, prefix: str) -> dict[str, list[str]]:
        """As many keys of every shard, by the shard's number."""
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

    @contextmanager
    def working(self, prefix: str) -> Iterator[Work]:
        """Traffic on all shards while the block runs."""
        work = Work(self, prefix)
        try:
            yield work
        finally:
            work.stop()

    def logged_in(self, shard: int, password: str) -> str:
        """A shard's direct response to a client with this password."""
        at = {**self.direct[shard], "password_file": "", "password": password}
        reply = self.client().ask("steps", at=at, timeout=10, commands=[["PING"]])
        answer = reply["answers"][0]["answer"]
        return str(answer["error"] if isinstance(answer, dict) else answer)

    def lost(self, watched: Watched) -> list[str]:
        """Acknowledged writes that cannot be read back, or that read back an older value."""
        acknowledged = watched.acknowledged
        keys = sorted(acknowledged)

        def read() -> list[Any]:
            values: list[Any] = self.client().ask("values", at=self.through, keys=keys)["values"]
            # A refused read says nothing about the stored value.
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
        """Whether a write to the shard through the ambassador returns OK."""
        key = key or self.keys_by_shard(1, "answers")[str(shard)][0]
        reply = self.client().ask("steps", at=self.through, commands=[["SET", key, "1"]])
        return bool(reply["answers"][0]["answer"] == "OK")

    def recovered(self, timeout: float = 60) -> None:
        """Wait until every shard's pod is ready and responds through the ambassador."""
        for index in range(len(self.shards)):
            self.shard_pod(index, timeout=timeout)
            eventually(
                lambda index=index: self.answers(index),  # type: ignore[misc]
                timeout,
                f"shard {index} answers through the ambassador",
            )
