"""The activator's client of the Kubernetes API: scales one Deployment and watches its pods."""

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
"""Minimum and maximum timeout of a watch."""
_LATE_SECONDS = 5
_CONFLICT = 409


class ClusterError(Exception):
    """The API did not respond, or refused the request."""


@dataclass(frozen=True)
class Pod:
    """A pod's status."""

    uid: str
    name: str
    address: str
    """Its IP address; empty before it has one."""
    leaving: bool
    """Whether it is terminating or has terminated."""
    reason: str = ""
    """Why it does not run, in one word, as ``kubectl get pods`` shows it."""
    detail: str = ""
    """The detailed message, for the log."""

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Pod":
        """Parse the API's JSON."""
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
    """The desired replicas of a Deployment."""

    replicas: int
    version: str


class Cluster:
    """A client with the pod's ServiceAccount."""

    def __init__(
        self, deployment: str, selector: str, hold_seconds: float, account: pathlib.Path = ACCOUNT
    ) -> None:
        """Describe the Deployment.

        :param selector: label selector of the Deployment's pods
        :param hold_seconds: how long requests wait for a pod. The watch's timeout is shorter, so
            that a stalled watch does not hide a ready pod from them
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
        """The desired number of pods."""
        found = self._request("GET", self._scale)
        return Scale(int(found["spec"].get("replicas", 0)), found["metadata"]["resourceVersion"])

    def order(self, replicas: int, seen: Scale) -> bool:
        """Set the number of pods; False if it was changed concurrently."""
        body = {
            "metadata": {"resourceVersion": seen.version},
            "spec": {"replicas": replicas},
        }
        return self._request("PATCH", self._scale, body, missing=_CONFLICT) is not None

    def watch(self, changed: Callable[[list[Pod]], None]) -> None:
        """Call ``changed`` with all pods now and after each change, until the stream ends.

        :raises ClusterError: the watch failed
        """
        query = {"labelSelector": self._selector}
        with self._stream("GET", f"{self._pods}?{urlencode(query)}", None, 10) as answer:
            content = json.load(answer)
        pods = {one.uid: one for one in map(Pod.of, content["items"])}
        changed([*pods.values()])
        query |= {
            "watch": "1",
            "resourceVersion": content["metadata"]["resourceVersion"],
            "timeoutSeconds": str(self._watch_seconds),
        }
        path = f"{self._pods}?{urlencode(query)}"
        with self._stream("GET", path, None, self._watch_seconds + _LATE_SECONDS) as answer:
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    # Most often the resource version is too old; the next list gives a new one.
                    return
                if event["type"] == "BOOKMARK":
                    continue
                pod = Pod.of(event["object"])
                pods[pod.uid] = pod
                if event["type"] == "DELETED":
                    del pods[pod.uid]
                changed([*pods.values()])

    def _request(
        self, method: str, path: str, body: Any = None, missing: int = 0
    ) -> dict[str, Any] | None:
        """The response, over a keep-alive connection; None for the status ``missing``."""
        with self._mutex:
            # Retried once if the server has closed the idle connection.
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
        raise ClusterError("no response")

    @contextmanager
    def _stream(
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
        # The kubelet rotates the token, so it is read each time.
        headers = {"Authorization": f"Bearer {(self._account / 'token').read_text().strip()}"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        connection.request(method, path, None if body is None else json.dumps(body), headers)


def _message(text: bytes) -> str:
    try:
        return str(json.loads(text).get("message", ""))[:300]
    except (ValueError, AttributeError):
        return text[:300].decode(errors="replace")
