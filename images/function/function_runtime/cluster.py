"""What an activator asks of the cluster's API: one Deployment's number of pods, and these pods."""

import http.client
import json
import os
import pathlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

ACCOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
_WATCH_SECONDS = (5, 60)
"""Shortest and longest watch."""
_LATE_SECONDS = 5
_CONFLICT = 409


class ClusterError(Exception):
    """The API did not answer, or refused."""


@dataclass(frozen=True)
class Pod:
    """A pod, as the API has it."""

    uid: str
    name: str
    address: str
    """Empty as long as it has none."""
    leaving: bool
    """Whether it was told to end, or has ended."""
    reason: str = ""
    """Why it does not run, in one word, as ``kubectl get pods`` says it."""
    detail: str = ""
    """The same at length. For the log."""

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Pod":
        """From the API's JSON."""
        metadata, status = raw["metadata"], raw.get("status", {})
        reason, detail = _why(status)
        return cls(
            uid=metadata["uid"],
            name=metadata["name"],
            address=status.get("podIP", ""),
            leaving="deletionTimestamp" in metadata
            or status.get("phase") in ("Succeeded", "Failed"),
            reason=reason,
            detail=detail,
        )


def _why(status: Mapping[str, Any]) -> tuple[str, str]:
    for entry in (
        *status.get("initContainerStatuses", ()),
        *status.get("containerStatuses", ()),
    ):
        for kind in ("waiting", "terminated"):
            state = entry.get("state", {}).get(kind)
            if state and state.get("reason") not in ("Completed", "PodInitializing"):
                return str(state.get("reason", "")), str(state.get("message", ""))
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("reason", "")), str(condition.get("message", ""))
    return "", ""


@dataclass(frozen=True)
class Scale:
    """How many pods a Deployment is to have, as it was read."""

    replicas: int
    version: str


class Cluster:
    """The API, with the account of this pod."""

    def __init__(
        self, deployment: str, selector: str, hold_seconds: float, account: pathlib.Path = ACCOUNT
    ) -> None:
        """Describe whom it is about.

        :param selector: labels of the Deployment's pods
        :param hold_seconds: how long requests wait for a pod. A watch that says nothing more is
            noticed well before: it must not cost them the pod that is there.
        """
        shortest, longest = _WATCH_SECONDS
        self._watch_seconds = int(min(longest, max(shortest, hold_seconds / 4)))
        self._account = account
        namespace = (account / "namespace").read_text().strip()
        self._scale = f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}/scale"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._selector = selector
        self._context = ssl.create_default_context(cafile=str(account / "ca.crt"))
        self._open: http.client.HTTPSConnection | None = None
        self._mutex = threading.Lock()

    def scale(self) -> Scale:
        """The number of pods that are wanted."""
        found = self._asked("GET", self._scale)
        return Scale(int(found["spec"].get("replicas", 0)), found["metadata"]["resourceVersion"])

    def order(self, replicas: int, seen: Scale) -> bool:
        """Change the number; False if somebody else has changed it since it was read."""
        body = {
            "metadata": {"resourceVersion": seen.version},
            "spec": {"replicas": replicas},
        }
        return self._asked("PATCH", self._scale, body, missing=_CONFLICT) is not None

    def watch(self, told: Callable[[list[Pod]], None]) -> None:
        """Tell of all pods, and again of all at each change, until the stream ends.

        :raises ClusterError: it broke
        """
        query = {"labelSelector": self._selector}
        with self._answer("GET", f"{self._pods}?{urlencode(query)}", None, 10) as answer:
            content = json.load(answer)
        pods = {one.uid: one for one in map(Pod.of, content["items"])}
        told([*pods.values()])
        query |= {
            "watch": "1",
            "resourceVersion": content["metadata"]["resourceVersion"],
            "timeoutSeconds": str(self._watch_seconds),
        }
        path = f"{self._pods}?{urlencode(query)}"
        with self._answer("GET", path, None, self._watch_seconds + _LATE_SECONDS) as answer:
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    # Most often the list is too old by now. The next one is new.
                    return
                if event["type"] == "BOOKMARK":
                    continue
                pod = Pod.of(event["object"])
                pods[pod.uid] = pod
                if event["type"] == "DELETED":
                    del pods[pod.uid]
                told([*pods.values()])

    def _asked(
        self, method: str, path: str, body: Any = None, missing: int = 0
    ) -> dict[str, Any] | None:
        """The answer over a connection that is kept; None for the status ``missing``."""
        with self._mutex:
            # Once more where the connection that was kept has been closed meanwhile.
            for kept in (True, False):
                if not kept or self._open is None:
                    self._open = self._connection(5)
                try:
                    self._send(self._open, method, path, body)
                    answer = self._open.getresponse()
                    status, text = answer.status, answer.read()
                except (OSError, http.client.HTTPException) as error:
                    self._open.close()
                    self._open = None
                    if not kept:
                        raise ClusterError(f"{type(error).__name__}: {error}") from None
                    continue
                if status == missing:
                    return None
                if status != http.HTTPStatus.OK:
                    raise ClusterError(f"{status}: {_message(text)}")
                found: dict[str, Any] = json.loads(text)
                return found
        raise ClusterError("no answer")

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Any, seconds: float
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection(seconds)
        try:
            self._send(connection, method, path, body)
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                raise ClusterError(f"{answer.status}: {_message(answer.read())}")
            yield answer
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ClusterError(f"{type(error).__name__}: {error}") from None
        finally:
            connection.close()

    def _connection(self, seconds: float) -> http.client.HTTPSConnection:
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
        port = int(os.environ.get("KUBERNETES_SERVICE_PORT_HTTPS", "443"))
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=self._context)

    def _send(
        self, connection: http.client.HTTPSConnection, method: str, path: str, body: Any
    ) -> None:
        # The kubelet replaces the token, so it is read each time.
        headers = {"Authorization": f"Bearer {(self._account / 'token').read_text().strip()}"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        connection.request(method, path, None if body is None else json.dumps(body), headers)


def _message(text: bytes) -> str:
    try:
        return str(json.loads(text).get("message", ""))[:300]
    except (ValueError, AttributeError):
        return text[:300].decode(errors="replace")
