"""A small Kubernetes client for tests: objects, pods, exec, logs and throw-away namespaces."""

import json
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config, dynamic
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import NotFoundError
from kubernetes.stream import stream
from websocket import WebSocketException

from tests.live.support.cluster import ROOT
from tests.live.support.waiting import eventually, patience

RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}
FIELD_MANAGER = "dds-live-tests"
LABEL = "dds.test"


class ExecError(AssertionError):
    """A command in a pod exited with a status other than 0."""


class ExecLostError(AssertionError):
    """The exit status of a command in a pod is unknown, or it did not start."""


@dataclass(frozen=True)
class Pod:
    """The state of a pod at one moment, as far as tests need it."""

    namespace: str
    name: str
    node: str
    address: str
    uid: str
    ready: bool
    phase: str
    containers: Mapping[str, str]
    """Container ids by name, sidecars included; empty for one that is not running."""
    restarts: Mapping[str, int]

    @classmethod
    def of(cls, raw: Any) -> "Pod":
        statuses = [
            *(raw.status.init_container_statuses or []),
            *(raw.status.container_statuses or []),
        ]
        conditions = {c.type: c.status for c in raw.status.conditions or []}
        return cls(
            namespace=raw.metadata.namespace,
            name=raw.metadata.name,
            node=raw.spec.node_name or "",
            address=raw.status.pod_ip or "",
            uid=raw.metadata.uid,
            ready=conditions.get("Ready") == "True" and raw.metadata.deletion_timestamp is None,
            phase=raw.status.phase or "",
            containers={
                s.name: re.sub(r"^\w+://", "", s.container_id)
                for s in statuses
                if s.container_id and s.state.running
            },
            restarts={s.name: s.restart_count for s in statuses},
        )


class Exec:
    """A running command in a container."""

    def __init__(self, socket: Any, what: str) -> None:
        self._socket = socket
        self._what = what
        self._out: list[str] = []
        self._err: list[str] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        try:
            open_still = True
            while open_still and not self._stopped.is_set():
                self._socket.update(timeout=1)
                # Checked before the channels: each read from them takes what has arrived meanwhile,
                # which may be the end of one channel and the close.
                open_still = self._socket.is_open()
                if self._socket.peek_stdout():
                    self._out.append(self._socket.read_stdout())
                if self._socket.peek_stderr():
                    self._err.append(self._socket.read_stderr())
            # `close` alone leaves the connection open if the peer has ended it.
            self._socket.sock.shutdown()
        except (OSError, WebSocketException) as error:
            self._err.append(f"the connection is gone: {error!r}")

    def send(self, line: str) -> None:
        """One more line on its stdin, if it was started with one."""
        self._socket.write_stdin(line + "\n")

    def taken(self) -> str:
        """Its output since the last call, for a command that still runs."""
        count = len(self._out)
        text = "".join(self._out[:count])
        del self._out[:count]
        return text

    @property
    def errors(self) -> str:
        """The end of what it has written to stderr."""
        return "".join(self._err)[-2000:]

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Close the connection."""
        self._stopped.set()
        self._thread.join(5)
        self._socket.close()

    def output(self, timeout: float = 120) -> str:
        """Its output, after waiting for its end; ExecError if it failed.

        :param timeout: seconds that are enough where nothing else runs; see ``patience``
        """
        self._thread.join(patience(timeout))
        if self._thread.is_alive():
            self._socket.close()
            raise ExecLostError(f"{self._what}: not done after {patience(timeout):g} s")
        errors = self.errors
        try:
            code = self._socket.returncode
        except (TypeError, KeyError, IndexError, ValueError) as error:
            # The container or its runtime is gone, or the connection.
            raise ExecLostError(f"{self._what}: no status: {error!r}\n{errors}") from error
        if code is None:
            raise ExecLostError(f"{self._what}: no status\n{errors}")
        if code != 0:
            raise ExecError(f"{self._what}: status {code}\n{errors}")
        return "".join(self._out)


class Kube:
    """The cluster's API with the project's own kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = str(kubeconfig)
        self._client = self._new_client()
        self.core = client.CoreV1Api(self._client)
        self.apps = client.AppsV1Api(self._client)
        self.batch = client.BatchV1Api(self._client)
        self._dynamic: Any = None

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.pool_manager.clear()
        self._client.close()

    def _new_client(self) -> Any:
        return config.new_client_from_config(self._kubeconfig)  # type: ignore[no-untyped-call]

    # namespaces

    @contextmanager
    def namespace(self, purpose: str) -> Iterator[str]:
        """A new namespace with the restricted pod security level, deleted afterwards."""
        name = f"test-{purpose}-{secrets.token_hex(3)}"
        metadata = client.V1ObjectMeta(name=name, labels={**RESTRICTED, LABEL: purpose})
        self.core.create_namespace(client.V1Namespace(metadata=metadata))
        try:
            # Without it no pod is admitted.
            eventually(
                lambda: self.core.list_namespaced_service_account(name).items,
                60,
                f"{name} has a service account",
            )
            yield name
        finally:
            # Not waited for: deleting a namespace is slow and nothing else uses the name.
            self.core.delete_namespace(name)

    def forget_namespace(self, name: str) -> None:
        """Delete a namespace, if it exists, without waiting."""
        with suppress(NotFoundError):
            self._api("v1", "Namespace").delete(name=name)

    # objects

    def apply(self, manifest: Mapping[str, Any]) -> Any:
        """Server-side apply of one object."""
        api = self._api(manifest["apiVersion"], manifest["kind"])
        metadata = manifest["metadata"]
        return api.server_side_apply(
            body=dict(manifest),
            name=metadata["name"],
            namespace=metadata.get("namespace"),
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
        )

    def delete(self, api_version: str, kind: str, namespace: str, name: str) -> None:
        """Delete one object, if it exists."""
        with suppress(NotFoundError):
            self._api(api_version, kind).delete(name=name, namespace=namespace)

    def objects(self, api_version: str, kind: str, namespace: str, labels: str = "") -> list[Any]:
        """The objects of a kind as plain mappings."""
        found = self._api(api_version, kind).get(namespace=namespace, label_selector=labels)
        return [item.to_dict() for item in found.items]

    def _api(self, api_version: str, kind: str) -> Any:
        if self._dynamic is None:
            self._dynamic = dynamic.DynamicClient(self._client)  # type: ignore[no-untyped-call]
        return self._dynamic.resources.get(api_version=api_version, kind=kind)

    # pods

    def pods(self, namespace: str, labels: Mapping[str, str] | str = "") -> list[Pod]:
        """The namespace's pods in order of their names."""
        selector = (
            labels
            if isinstance(labels, str)
            else ",".join(f"{key}={value}" for key, value in labels.items())
        )
        found = self.core.list_namespaced_pod(namespace, label_selector=selector).items
        return sorted((Pod.of(raw) for raw in found), key=lambda pod: pod.name)

    def pod(self, namespace: str, name: str) -> Pod | None:
        try:
            return Pod.of(self.core.read_namespaced_pod(name, namespace))
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def ready_pod(self, namespace: str, name: str, timeout: float = 90, not_uid: str = "") -> "Pod":
        """The pod once it is ready; with ``not_uid`` only a successor of that pod."""

        def condition() -> Pod | None:
            pod = self.pod(namespace, name)
            return pod if pod and pod.ready and pod.uid != not_uid else None

        found = eventually(
            condition, timeout, lambda: f"pod {name} is ready\n{self.describe(namespace)}"
        )
        assert found is not None
        return found

    def restarted(self, before: Pod, *containers: str, timeout: float = 60) -> Pod:
        """The same pod, ready, once its killed containers have been restarted.

        The other containers' responses do not tell this: a busy kubelet restarts late.
        """

        def condition() -> Pod | None:
            pod = self.pod(before.namespace, before.name)
            assert pod is not None
            assert pod.uid == before.uid
            again = all(pod.restarts[name] == before.restarts[name] + 1 for name in containers)
            return pod if again and pod.ready else None

        found = eventually(
            condition,
            timeout,
            lambda: f"{', '.join(containers)} started again\n{self.describe(before.namespace)}",
        )
        assert found is not None
        return found

    def delete_pod(self, pod: Pod, grace: int | None = None) -> None:
        """Delete a pod, with ``grace`` seconds instead of its own; with 0 by force."""
        body = client.V1DeleteOptions(grace_period_seconds=grace)
        self.core.delete_namespaced_pod(pod.name, pod.namespace, body=body)

    def logs(self, pod: Pod, container: str) -> str:
        text: str = self.core.read_namespaced_pod_log(pod.name, pod.namespace, container=container)
        return text

    def describe(self, namespace: str) -> str:
        """The state of the namespace's pods, with the last events, for a failure message."""
        lines = []
        for raw in self.core.list_namespaced_pod(namespace).items:
            lines.append(f"  {raw.metadata.name}: {raw.status.phase}")
            for status in [
                *(raw.status.init_container_statuses or []),
                *(raw.status.container_statuses or []),
            ]:
                state = status.state.waiting or status.state.terminated
                if state:
                    lines.append(f"    {status.name}: {state.reason} {state.message or ''}")
        for event in self.core.list_namespaced_event(namespace).items[-12:]:
            lines.append(f"  {event.involved_object.name}: {event.reason}: {event.message}")
        return "\n".join(lines)

    # exec

    def start(
        self, pod: Pod, container: str, command: Sequence[str], line: str | None = None
    ) -> Exec:
        """Start a command in a container, with one line on its stdin."""
        what = f"{pod.name}/{container}: {' '.join(command)[:200]}"
        try:
            # `stream` replaces a method of its client, so every call has its own client.
            socket = stream(
                client.CoreV1Api(self._new_client()).connect_get_namespaced_pod_exec,
                pod.name,
                pod.namespace,
                container=container,
                command=list(command),
                stdin=line is not None,
                stdout=True,
                stderr=True,
                tty=False,
                _preload_content=False,
            )
        except ApiException as error:
            raise ExecLostError(f"{what}: {error.status} {error.reason}") from error
        if line is not None:
            for start in range(0, len(line), 1 << 15):
                socket.write_stdin(line[start : start + (1 << 15)])
            socket.write_stdin("\n")
        return Exec(socket, what)

    def run(self, pod: Pod, container: str, command: Sequence[str], timeout: float = 120) -> str:
        """The output of a command in a container; raises ExecError if it failed."""
        return self.start(pod, container, command).output(timeout)

    # workloads

    def service(self, namespace: str, instance: str) -> str:
        """Name of a workload's Service."""
        (found,) = self.objects(
            "v1", "Service", namespace, f"app.kubernetes.io/instance={instance}"
        )
        return str(found["metadata"]["name"])

    def roll(self, namespace: str, instance: str) -> None:
        """Replace a Deployment's pods, as any change of its template does."""
        (found,) = self.objects(
            "apps/v1", "Deployment", namespace, f"app.kubernetes.io/instance={instance}"
        )
        mark = {"metadata": {"annotations": {"live/roll": str(now())}}}
        self.apps.patch_namespaced_deployment(
            found["metadata"]["name"], namespace, {"spec": {"template": mark}}
        )

    # nodes

    def nodes(self) -> list[str]:
        return sorted(str(node.metadata.name) for node in self.core.list_node().items)

    @contextmanager
    def cordoned(self, node: str) -> Iterator[None]:
        """Nothing new is scheduled to the node meanwhile."""
        self.core.patch_node(node, {"spec": {"unschedulable": True}})
        try:
            yield
        finally:
            self.core.patch_node(node, {"spec": {"unschedulable": False}})

    def move(self, pod: Pod, timeout: float = 120) -> "Pod":
        """Delete a pod of a controller so that its successor starts on another node."""
        with self.cordoned(pod.node):
            self.delete_pod(pod)
            return self.ready_pod(pod.namespace, pod.name, timeout, not_uid=pod.uid)


class InPod:
    """A program that is mounted in a pod, most often the client of `tests/live/in_pod`."""

    FOLDER = "/opt/live"

    def __init__(self, kube: Kube, pod: Pod, container: str) -> None:
        self.kube = kube
        self.pod = pod
        self.container = container

    @classmethod
    def files(cls, package: str = "tests.live.in_pod") -> dict[str, str]:
        """Path and content of a package of such programs, to be mounted into the container."""
        folder = package.replace(".", "/")
        return {
            f"{cls.FOLDER}/{folder}/{file.name}": file.read_text()
            for file in sorted((ROOT / folder).glob("*.py"))
        }

    def start(self, do: str, module: str = "tests.live.in_pod.client", **request: Any) -> Exec:
        command = [
            "env", f"PYTHONPATH={self.FOLDER}", "PYTHONDONTWRITEBYTECODE=1",
            "python3", "-m", module,
        ]  # fmt: skip
        line = json.dumps({"do": do, **request})
        return self.kube.start(self.pod, self.container, command, line)

    def ask(
        self, do: str, wait: float = 120, module: str = "tests.live.in_pod.client", **request: Any
    ) -> Any:
        """The program's response to one request, within ``wait`` seconds."""
        return json.loads(self.start(do, module, **request).output(wait))


def now() -> float:
    """Unix seconds; the pods share this machine's clock."""
    return time.time()
