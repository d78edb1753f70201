"""A small client of the Kubernetes API: single requests, and informers."""

import base64
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from toolchain.node.program import background

RUN = Path("/run/node")
FIELD_MANAGER = "node"
# The server ends a watch after the first; a watch that is silent for both together counts as dead.
WATCH_SECONDS = 20
LATE_SECONDS = 10
# Maximum size of a list, and of one object: etcd stores no object beyond 1.5 MiB.
MOST_BYTES = 512 << 20
MOST_LINE_BYTES = 16 << 20
# Pause between two watches, in case the server ends each of them at once.
PAUSE_SECONDS = 0.2
APPLY = "application/apply-patch+yaml"

# Seconds until the first keepalive probe, between probes, and number of failed probes: 10 s in all.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 4, socket.TCP_KEEPINTVL: 2, socket.TCP_KEEPCNT: 3}

Object = Mapping[str, Any]


class ApiError(OSError):
    """An error response of the API server. `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def whole(response: http.client.HTTPResponse, most_bytes: int, seconds: float) -> bytes:
    """The complete body.

    Raises OSError if it is truncated, has more than `most_bytes`, or takes more than `seconds`.
    """
    end = time.monotonic() + seconds
    body = bytearray()
    try:
        while piece := response.read1(65536):
            body += piece
            if len(body) > most_bytes:
                raise OSError(f"the response has more than {most_bytes} bytes")
            if time.monotonic() > end:
                raise TimeoutError(f"the response is not complete after {seconds:.0f} s")
    except http.client.HTTPException as error:
        raise OSError(f"the response is truncated: {error!r}") from error
    # A connection that is closed early ends the read without an error.
    if response.length:
        raise OSError(f"the response is truncated, {response.length} bytes are missing")
    return bytes(body)


class Api:
    """Requests with the credentials of a kubeconfig, which is read for each connection because a
    kubelet rotates its certificate.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._path = kubeconfig

    def _file(self, entry: Object, key: str) -> str:
        if key in entry:
            return str(entry[key])
        target = RUN / f"{self._path.name}.{key}"
        data = base64.b64decode(entry[f"{key}-data"])
        if not target.exists() or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.touch(mode=0o600)
            target.write_bytes(data)
        return str(target)

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        try:
            loaded = yaml.load(self._path.read_text(), Loader=yaml.CSafeLoader)
            cluster = loaded["clusters"][0]["cluster"]
            user = loaded["users"][0]["user"]
            where = urlsplit(cluster["server"])
            authority = self._file(cluster, "certificate-authority")
            credential = (self._file(user, "client-certificate"), self._file(user, "client-key"))
        except (KeyError, IndexError, TypeError, ValueError, yaml.YAMLError) as error:
            raise LookupError(f"{self._path} is incomplete: {error}") from error
        context = ssl.create_default_context(cafile=authority)
        context.load_cert_chain(*credential)
        connection = http.client.HTTPSConnection(
            where.hostname or "", where.port or 443, timeout=timeout, context=context
        )
        connection.connect()
        # A watch sends nothing: without keepalive a vanished server would go unnoticed.
        for option, value in _KEEPALIVE.items():
            connection.sock.setsockopt(socket.IPPROTO_TCP, option, value)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str = "application/json",
        timeout: float = 10.0,
    ) -> Any:
        """The decoded response to one request, or its text if it is not JSON.

        Raises ApiError, or OSError without a complete response: after `timeout` seconds without data, or
        ten times as many in all.
        """
        connection = self._connect(timeout)
        try:
            connection.request(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": content_type, "Accept": "application/json"},
            )
            response = connection.getresponse()
            text = whole(response, MOST_BYTES, timeout * 10)
        except http.client.HTTPException as error:
            raise OSError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise ApiError(response.status, f"{method} {path}: {response.status} {text[:500]!r}")
        try:
            return json.loads(text)
        except ValueError:
            return text.decode(errors="replace")

    def ready(self) -> bool:
        """Whether the API server is ready."""
        return bool(self.call("GET", "/readyz", timeout=5) == "ok")

    def watch(self, path: str, version: str) -> Iterator[Object]:
        """The events after a resource version, until the server ends the watch (after 20 s).

        Raises ApiError, or OSError if an event is truncated or no data arrives for 30 s.
        """
        connection = self._connect(WATCH_SECONDS + LATE_SECONDS)
        try:
            joint = "&" if "?" in path else "?"
            connection.request(
                "GET",
                f"{path}{joint}watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}"
                f"&resourceVersion={version}",
            )
            response = connection.getresponse()
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise ApiError(response.status, f"watch {path}: {response.read(500)!r}")
            while line := response.readline(MOST_LINE_BYTES):
                if not line.endswith(b"\n"):
                    raise OSError(f"watch {path}: an event is truncated after {len(line)} bytes")
                yield json.loads(line)
        except http.client.HTTPException as error:
            raise OSError(f"watch {path}: {error!r}") from error
        finally:
            connection.close()


class Informer:
    """A local copy of a list in the API, updated by a watch in a thread of its own.

    `changed` is called after every change. The last copy stays while the API is unavailable; after an
    error the list is read again.
    """

    def __init__(
        self, api: Api, path: str, stop: threading.Event, changed: Callable[[], None]
    ) -> None:
        self._api = api
        self._path = path
        self._stop = stop
        self._changed = changed
        self._objects: dict[tuple[str, str], Object] = {}
        self._lock = threading.Lock()
        self.complete = threading.Event()
        background.start(f"watch {path}", stop, self._run)

    def objects(self) -> list[Object]:
        """The current objects."""
        with self._lock:
            return list(self._objects.values())

    def get(self, namespace: str, name: str) -> Object | None:
        """One object; the namespace is empty for cluster-scoped ones."""
        with self._lock:
            return self._objects.get((namespace, name))

    @staticmethod
    def _key(item: Object) -> tuple[str, str]:
        metadata = item["metadata"]
        return metadata.get("namespace", ""), metadata["name"]

    def _run(self) -> None:
        while not self._stop.is_set():
            listed = self._api.call("GET", self._path, timeout=30)
            with self._lock:
                self._objects = {self._key(item): item for item in listed["items"]}
            self.complete.set()
            self._changed()
            self._follow(listed["metadata"]["resourceVersion"])
            self._stop.wait(PAUSE_SECONDS)

    def _follow(self, version: str) -> None:
        while not self._stop.is_set():
            for event in self._api.watch(self._path, version):
                if event["type"] == "ERROR":
                    return
                item = event["object"]
                version = item["metadata"]["resourceVersion"]
                if event["type"] == "BOOKMARK":
                    continue
                with self._lock:
                    if event["type"] == "DELETED":
                        self._objects.pop(self._key(item), None)
                    else:
                        self._objects[self._key(item)] = item
                self._changed()
            self._stop.wait(PAUSE_SECONDS)
