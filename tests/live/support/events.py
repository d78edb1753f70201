"""The deployment of the tests of events: a bus, a pipeline of three steps, two-factor."""

import json
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dds_patterns import Flow, Next
from tests.live.support.cluster import Cluster
from tests.live.support.kube import ExecError, InPod, Kube, Pod
from tests.live.support.nodes import Nodes
from tests.live.support.stacks import PROGRAMS, Stack, throwaway
from tests.live.support.waiting import eventually

IMAGES = ("nats", "events", "function", "toolbox")
CODE_SECONDS = 90
"""Longer than the outage that is waited for."""
FLOW = Flow(
    "signup",
    "create-user",
    {
        "create-user": Next(required=("email-user",), optional={"newsletter": "subscribe-user"}),
        "email-user": Next(),
        "subscribe-user": Next(),
    },
)


@dataclass(frozen=True)
class Events:
    """The deployed programs of the event bus, for the tests."""

    kube: Kube
    nodes: Nodes
    namespace: str
    outputs: Mapping[str, Any]
    stack: Stack

    def pods(self, instance: str) -> list[Pod]:
        """The running pods of a workload."""
        labels = {"app.kubernetes.io/instance": instance}
        return [pod for pod in self.kube.pods(self.namespace, labels) if pod.ready]

    def pod(self, instance: str, timeout: float = 60) -> Pod:
        """A running pod of a workload, once there is one."""
        found = eventually(
            lambda: self.pods(instance), timeout, lambda: self.kube.describe(self.namespace)
        )
        return found[0]

    @cached_property
    def client(self) -> InPod:
        """A pod that may publish."""
        return InPod(self.kube, self.pod("client"), "client")

    def ask(self, do: str, **request: Any) -> Any:
        """The client's response."""
        return self.client.ask(do, module="tests.live.in_pod.web", **request)

    def http(self, url: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Status and content of one request."""
        method = "GET" if body is None else "POST"
        answer = self.ask("exchange", url=url, method=method, body=body, **more)
        return answer["status"], answer["content"]

    def events(self, command: str, *words: str) -> str:
        """The output of a command of the image ``events``, in a pod that delivers."""
        line = ["python3", "-m", "events", command, *words]
        return self.kube.run(self.pod("signup-pipeline"), "events", line, 60)

    def trace(self, event: str) -> dict[str, Any]:
        """The records of an event; empty if there are none."""
        try:
            found: dict[str, Any] = json.loads(self.events("trace", event, "--json"))
        except ExecError:
            return {"records": [], "done": [], "dead": [], "waiting": []}
        return found

    def dead(self, event: str = "") -> list[dict[str, Any]]:
        """The dead letters, of one event or of all."""
        letters = [json.loads(line) for line in self.events("dead").splitlines()]
        return [one for one in letters if event in ("", one["id"])]

    def calls(self) -> list[dict[str, Any]]:
        """Every call that the steps received."""
        status, content = self.http(f"{self.outputs['steps']}/calls")
        assert status == 200, content
        calls: list[dict[str, Any]] = content
        return calls

    def effects(self, ids: Sequence[str]) -> Counter[str]:
        """How often each key of these events had its effect."""
        mine = set(ids)
        return Counter(
            one["key"] for one in self.calls() if one["effect"] and one["key"].split("/")[0] in mine
        )

    def settled(self, expected: Mapping[str, int], ids: Sequence[str], timeout: float) -> None:
        """Wait until the effects are the expected ones; more than expected fails as well."""
        found: Counter[str] = Counter()

        def same() -> bool:
            nonlocal found
            found = self.effects(ids)
            return found == expected

        def difference() -> str:
            missing = sorted((Counter(expected) - found).elements())
            way = self.trace(missing[0].partition("/")[0]) if missing else {}
            return (
                f"{len(missing)} missing: {missing[:6]}, {way}, "
                f"too many {sorted((found - Counter(expected)).elements())[:6]}\n"
                f"{self.kube.describe(self.namespace)}"
            )

        eventually(same, timeout, difference, interval=0.5)


def key(event: str, *steps: str) -> str:
    """The Idempotency-Key of an event of the pipeline at the last of these steps."""
    return "/".join((event, "signup-pipeline", *steps))


def batch(count: int, **data: Any) -> list[dict[str, Any]]:
    """Events with new ids; every second one wants the newsletter."""
    mark = secrets.token_hex(3)
    return [
        {
            "id": f"{mark}-{number:03d}",
            "data": {"username": f"u{number}", "newsletter": True if number % 2 else None, **data},
        }
        for number in range(count)
    ]


def ways(events: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """The effects that these events should have: one for every step on their way."""
    found: Counter[str] = Counter()
    for event in events:
        for path in FLOW.paths():
            if path[-1] != "subscribe-user" or event["data"]["newsletter"]:
                found[key(event["id"], *path)] = 1
    return found


@contextmanager
def deployed(
    cluster: Cluster, kube: Kube, nodes: Nodes, images: Mapping[str, str], folder: Path
) -> Iterator[Events]:
    """The deployment, until the end of the block."""
    with (
        kube.namespace("events") as namespace,
        # Deleting the namespace deletes everything in it; destroying first would only take longer.
        throwaway(cluster, PROGRAMS / "events", folder, destroy=False) as stack,
    ):
        stack.up(namespace=namespace, images=dict(images), code_seconds=str(CODE_SECONDS))
        yield Events(kube, nodes, namespace, stack.outputs(), stack)
