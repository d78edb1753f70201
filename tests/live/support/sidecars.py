"""The composition ``sidecars`` as deployed for tests, and requests to it."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.live.support.cluster import Cluster
from tests.live.support.kube import InPod, Kube, Pod, now
from tests.live.support.nodes import Nodes
from tests.live.support.stacks import PROGRAMS, Stack, throwaway
from tests.live.support.variants import built_images
from tests.live.support.waiting import eventually

IMAGES = ("companions", "nginx", "toolbox")
INTERVAL = 2
"""Seconds between two readings of the HTTP and git sources."""
SOURCE_PORT = 8099
SOURCE_FOLDER = "/tmp/source"
HTTPS = "tests.live.in_pod.https"
CA = "/etc/live-ca/ca.crt"


@dataclass(frozen=True)
class Sidecars:
    """The program ``sidecars``, deployed."""

    kube: Kube
    nodes: Nodes
    stack: Stack
    namespace: str

    def pods(self, instance: str, count: int = 1, timeout: float = 60) -> list[Pod]:
        """The ready pods of a workload, once there are `count` of them."""

        def condition() -> list[Pod]:
            found = self.kube.pods(self.namespace, {"app.kubernetes.io/instance": instance})
            ready = [pod for pod in found if pod.ready]
            return ready if len(ready) == len(found) == count else []

        return eventually(
            condition, timeout, lambda: f"{instance} is ready\n{self.kube.describe(self.namespace)}"
        )

    def client(self) -> InPod:
        return InPod(self.kube, self.pods("client")[0], "client")

    def ask(self, at: Mapping[str, Any], **request: Any) -> Any:
        """One request of the client."""
        return self.client().ask("get", module=HTTPS, at=dict(at), **request)

    @contextmanager
    def load(self, at: Mapping[str, Any], **request: Any) -> Iterator[dict[str, Any]]:
        """Clients that keep their connections, until the end of the block; their observations."""
        seen: dict[str, Any] = {}
        # A loaded machine responds late, which is no failure; the block ends the load.
        request = {"timeout": 30, "seconds": 300, **request}
        running = self.client().start("load", module=HTTPS, at=dict(at), **request)
        try:
            # They have sent their first requests by then.
            time.sleep(1)
            yield seen
        finally:
            if running.running:
                running.send("stop")
            seen.update(json.loads(running.output(60)))

    def inside(self, pod: Pod, container: str, path: str = "/") -> str:
        """The application's response to a container of its own pod."""
        script = (
            "import sys, urllib.request as r; "
            "print(r.urlopen('http://127.0.0.1:8080' + sys.argv[1], timeout=10).read().decode())"
        )
        return self.kube.run(pod, container, ["python3", "-c", script, path])

    def settings(self, pod: Pod, container: str) -> Any:
        """The files that the application of a pod has read, how often and when."""
        return json.loads(self.inside(pod, container, "/config"))

    def at_source(self, script: str, *arguments: str) -> str:
        """Run a shell script in the container with the document and the repository."""
        command = ["sh", "-c", script, "sh", *arguments]
        return self.kube.run(self.pods("source")[0], "source", command)

    def commit(self, **files: str | dict[str, str] | None) -> None:
        """A commit to the repository's folder; None removes a file."""
        paths = {f"etc/app/{name}": content for name, content in files.items()}
        program = "python3 /opt/live/git_server.py commit"
        self.at_source(f'{program} {SOURCE_FOLDER} "$1"', json.dumps(paths))

    def document(self, text: str | None) -> float:
        """Replace the document, or remove it; the time of it in Unix seconds."""
        file = f"{SOURCE_FOLDER}/document"
        if text is None:
            script = f"date +%s.%N; rm {file}"
        else:
            script = f'printf %s "$1" > {file}.new; date +%s.%N; mv {file}.new {file}'
        return float(self.at_source(script, text or ""))

    def sync(self, instance: str) -> None:
        """Make the kubelet update Secrets and ConfigMaps at once instead of within a minute."""
        for pod in self.kube.pods(self.namespace, {"app.kubernetes.io/instance": instance}):
            # Any change of a pod makes it sync the pod's volumes.
            self.kube.core.patch_namespaced_pod(
                pod.name,
                self.namespace,
                {"metadata": {"annotations": {"live/sync": str(now())}}},
            )


@contextmanager
def deployed(
    cluster: Cluster, kube: Kube, nodes: Nodes, folder: Path, interval: int = INTERVAL
) -> Iterator[Sidecars]:
    """The composition with its client, until the end of the block."""
    images = built_images(cluster, folder / "images", IMAGES)
    with (
        kube.namespace("sidecars") as namespace,
        # Deleting the namespace deletes everything in it.
        throwaway(cluster, PROGRAMS / "sidecars", folder / "stack", destroy=False) as stack,
    ):
        stack.up(namespace=namespace, images=dict(images), interval=interval)
        yield Sidecars(kube, nodes, stack, namespace)


def at(endpoint: str, **more: Any) -> dict[str, Any]:
    """``host:port`` in the client's form, with the authority of the composition."""
    host, _, port = endpoint.rpartition(":")
    return {"host": host, "port": int(port), "ca": CA, **more}
