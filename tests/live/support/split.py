"""The program ``split``: deployed once a session, and requests to it."""

import base64
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.live.support.cluster import Cluster
from tests.live.support.kube import Exec, InPod, Kube, Pod
from tests.live.support.nodes import Nodes
from tests.live.support.outside import Outside, redis
from tests.live.support.stacks import PROGRAMS, Stack, throwaway
from tests.live.support.variants import built_images
from tests.live.support.waiting import eventually

IMAGES = ("nginx", "companions", "toolbox", "haproxy", "redis", "twemproxy")
VISIT = "tests.live.in_pod.visit"
USERS = 5000
USER = {"X-User-Id": "user-#"}
"""The header by which the splitters identify a user."""

Rolled = Mapping[str, Mapping[str, Any]]
"""By workload, its clients' observations during a rolling update."""


@dataclass(frozen=True)
class Split:
    """The deployed program."""

    kube: Kube
    nodes: Nodes
    stack: Stack
    namespace: str
    images: Mapping[str, str]
    outside: Outside
    """A Redis outside the cluster."""

    def pod(self, instance: str, timeout: float = 60) -> Pod:
        """The only pod of a workload, once it is ready and all others are gone."""

        def condition() -> Pod | None:
            pods = self.kube.pods(self.namespace, {"app.kubernetes.io/instance": instance})
            return pods[0] if len(pods) == 1 and pods[0].ready else None

        found = eventually(
            condition,
            timeout,
            lambda: f"one pod of {instance} is ready\n{self.kube.describe(self.namespace)}",
        )
        assert found is not None
        return found

    def now(self, instance: str) -> Pod:
        """The pod of a workload as it is, ready or not."""
        (pod,) = self.kube.pods(self.namespace, {"app.kubernetes.io/instance": instance})
        return pod

    def start(self, instance: str, do: str, **request: Any) -> Exec:
        """Start the HTTP client in a workload's pod."""
        request.setdefault("host", "127.0.0.1")
        return InPod(self.kube, self.pod(instance), instance).start(do, VISIT, **request)

    def ask(self, instance: str, do: str, **request: Any) -> Any:
        """The HTTP client's response to one request."""
        request.setdefault("host", "127.0.0.1")
        return InPod(self.kube, self.pod(instance), instance).ask(do, module=VISIT, **request)

    @contextmanager
    def load(self, instance: str, port: int, path: str) -> Iterator[dict[str, Any]]:
        """Clients of a workload's Service, until the end of the block; their observations."""
        seen: dict[str, Any] = {}
        asked = {"host": self.kube.service(self.namespace, instance), "port": port, "path": path}
        # A pod that an earlier test paused is ready again in the API first, and on the client's
        # node up to a second later; until then the Service has no endpoint.
        eventually(
            lambda: self.ask("visitor", "get", **asked).get("status") == 200,
            30,
            f"the Service of {instance} answers",
        )
        running = self.start("visitor", "load", **asked, clients=2, pause=0.03, seconds=300)
        try:
            # They have sent their first requests by then.
            time.sleep(1)
            yield seen
            # And are connected to the pods of now.
            time.sleep(1)
        finally:
            if running.running:
                running.send("stop")
            seen.update(json.loads(running.output(60)))

    @contextmanager
    def replaced(self, *instances: str) -> Iterator[None]:
        """The block replaces these workloads' pods; waits until the old ones are gone."""
        before = {instance: self.pod(instance).uid for instance in instances}
        yield
        for instance, uid in before.items():
            eventually(
                lambda instance=instance, uid=uid: self.pod(instance).uid != uid,  # type: ignore[misc]
                120,
                f"{instance} has a new pod",
            )

    def update(self, percent: int) -> Rolled:
        """Another percentage, and new pods of everything on a client request's way, under load."""
        with (
            self.load("front", 8000, "/page?user=u#") as pages,
            self.load("inside", 8080, "/hits/rolled") as inside,
            self.load("outside", 8080, "/hits/rolled") as outside,
            self.replaced("front", "control", "experiment", "inside", "outside"),
        ):
            for instance in ("control", "experiment", "inside", "outside"):
                self.kube.roll(self.namespace, instance)
            self.stack.up(percent=percent)
        return {"front": pages, "inside": inside, "outside": outside}

    def checked(self, instance: str, container: str, text: str, command: Sequence[str]) -> str:
        """The check of a configuration by a companion's own program.

        :param command: the check; FILE in it is the configuration's path
        """
        file = "/tmp/checked"
        words = " ".join(shlex.quote(word.replace("FILE", file)) for word in command)
        script = f'read -r line && echo "$line" | base64 -d > {file} && {words} 2>&1 || true'
        line = base64.b64encode(text.encode()).decode()
        pod = self.pod(instance)
        return self.kube.start(pod, container, ["sh", "-c", script], line).output(30)

    def seen(self, instance: str, port: int, count: int, **request: Any) -> list[str]:
        """The responses to each of ``count`` users through a splitter."""
        asked = {"port": port, "count": count, **request}
        seen: list[str] = self.ask(instance, "users", wait=600, **asked)["seen"]
        return seen


@contextmanager
def split(cluster: Cluster, kube: Kube, nodes: Nodes, folder: Path) -> Iterator[Split]:
    """The program, until the end of the block."""
    images: Mapping[str, str] = built_images(cluster, folder / "images", IMAGES)
    with (
        redis(nodes, images["redis"]) as outside,
        kube.namespace("split") as namespace,
        # Deleting the namespace deletes everything in it.
        throwaway(cluster, PROGRAMS / "split", folder / "stack", destroy=False) as stack,
    ):
        stack.up(
            namespace=namespace,
            images=dict(images),
            percent=10,
            outside=outside.address,
            authority=outside.authority,
        )
        yield Split(kube, nodes, stack, namespace, images, outside)
