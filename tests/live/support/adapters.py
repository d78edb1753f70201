"""The composition ``adapters`` deployed for the tests, and requests to it."""

import json
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3.exceptions
from kubernetes.client.exceptions import ApiException

from stacks.adapters import IMAGES
from tests.live.support.cluster import Cluster
from tests.live.support.kube import Exec, InPod, Kube, Pod, now
from tests.live.support.nodes import Nodes
from tests.live.support.stacks import PROGRAMS, throwaway
from tests.live.support.variants import built_images
from tests.live.support.waiting import eventually

INTERVAL = 2
"""Seconds between two scrapes."""
PERIOD = 5
"""Seconds between two readiness probes of the database's monitor."""
_VISIT = "tests.live.in_pod.visit"


@dataclass
class Readiness:
    """How a pod's readiness and its containers' restarts changed, as the API reported it."""

    changes: list[tuple[float, bool]] = field(default_factory=list)
    """Unix seconds, and whether it was ready from then on."""

    def first(self, ready: bool, since: float = 0) -> float | None:
        """When this first held, not before ``since``."""
        return next((at for at, was in self.changes if was == ready and at >= since), None)

    def unready(self) -> bool:
        """Whether it was unready when last seen."""
        return bool(self.changes) and not self.changes[-1][1]

    def unready_seconds(self, until: float) -> float:
        """How long it was unready in all."""
        total = 0.0
        for (at, was), (end, _) in zip(
            self.changes, [*self.changes[1:], (until, True)], strict=True
        ):
            total += 0 if was else end - at
        return total


@dataclass(frozen=True)
class Adapters:
    """The deployed composition."""

    kube: Kube
    nodes: Nodes
    namespace: str
    dashboards: Mapping[str, str]
    password: str
    """The redis' clients'."""

    def pod(self, instance: str) -> Pod:
        """The one pod of a workload, once it is ready."""

        def condition() -> Pod | None:
            found = self.kube.pods(self.namespace, {"app.kubernetes.io/instance": instance})
            return found[0] if len(found) == 1 and found[0].ready else None

        pod = eventually(
            condition, 90, lambda: f"{instance} is ready\n{self.kube.describe(self.namespace)}"
        )
        assert pod is not None
        return pod

    def client(self) -> InPod:
        """The pod that may connect to everything."""
        return InPod(self.kube, self.pod("client"), "client")

    def get(self, host: str, port: int, path: str, wait: float = 10) -> Any:
        """One GET from the client's pod."""
        return self.client().ask(
            "get", module=_VISIT, host=host, port=port, path=path, timeout=wait
        )

    def load(self, host: str, port: int, path: str, seconds: float, pause: float = 0.05) -> Exec:
        """GETs in the background, each on its own connection."""
        return self.client().start(
            "load", module=_VISIT, host=host, port=port, path=path, seconds=seconds, pause=pause,
            timeout=5,
        )  # fmt: skip

    def prometheus(self, path: str, **query: str) -> Any:
        """The response of Prometheus' API."""
        answer = self.get("prometheus", 9090, f"/api/v1/{path}?{urllib.parse.urlencode(query)}")
        assert answer.get("status") == 200, answer
        return json.loads(answer["body"])["data"]

    def query(self, expression: str) -> dict[str, float]:
        """The value of each series, by its job and its other distinguishing labels."""
        found = self.prometheus("query", query=expression)["result"]
        return {
            ",".join(v for k, v in sorted(s["metric"].items()) if k not in ("__name__", "instance")):
            float(s["value"][1])
            for s in found
        }  # fmt: skip

    @contextmanager
    def watched(self, pod: Pod) -> Iterator[Readiness]:
        """Readiness of a pod while the block runs."""
        readiness = Readiness()
        stop = threading.Event()

        def loop() -> None:
            while not stop.is_set():
                try:
                    seen = self.kube.pod(pod.namespace, pod.name)
                except (ApiException, urllib3.exceptions.HTTPError):
                    # Not seen this time.
                    time.sleep(0.1)
                    continue
                ready = seen is not None and seen.ready
                if not readiness.changes or readiness.changes[-1][1] != ready:
                    readiness.changes.append((now(), ready))
                time.sleep(0.1)

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        try:
            yield readiness
        finally:
            stop.set()
            thread.join()

    def process(self, pod: Pod, container: str) -> tuple[str, str]:
        """Arguments and environment of a container's main process, as the node sees them."""
        pid = str(self.nodes.pid(pod, container))
        read = 'tr "\\0" "\\n" < "/proc/$1/$2"'
        return (
            self.nodes.run(pod.node, read, pid, "cmdline"),
            self.nodes.run(pod.node, read, pid, "environ"),
        )


@contextmanager
def adapters(cluster: Cluster, kube: Kube, nodes: Nodes, folder: Path) -> Iterator[Adapters]:
    """The composition in a namespace of its own, until the end of the block."""
    images = built_images(cluster, folder / "images", IMAGES)
    with (
        kube.namespace("adapters") as namespace,
        # Deleting the namespace deletes everything in it.
        throwaway(cluster, PROGRAMS / "adapters", folder / "stack", destroy=False) as stack,
    ):
        stack.up(namespace=namespace, images=dict(images), interval=INTERVAL)
        outputs = stack.outputs()
        yield Adapters(kube, nodes, namespace, outputs["dashboards"], outputs["password"])
