"""Where files come from."""

import json
import pathlib
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from companions.config_sync.snapshot import Snapshot, SourceError

_ACCOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CONNECT_SECONDS = 10
# Beyond the time that the API server was asked to end a watch after, it is taken for dead.
_WATCH_SLACK_SECONDS = 6


class Source(Protocol):
    """A source of files."""

    def read(self, most_bytes: int) -> Snapshot:
        """What it says now. Raises SourceError or OSError."""

    def wait(self, seconds: float, changed: Callable[[], None]) -> None:
        """Watch for as long as that, calling ``changed`` at each change. Raises like ``read``."""


def source_of(config: Mapping[str, Any]) -> Source:
    """The source that the configuration describes."""
    kind = config["kind"]
    if kind == "config_map":
        return ConfigMaps(config)
    if kind == "http":
        return HttpDocument(config)
    # Only this one needs the package.
    from companions.config_sync.repository import Repository  # noqa: PLC0415

    return Repository(config)


def tls_context(authority: str | None) -> ssl.SSLContext:
    """For a server whose certificate is verified."""
    return ssl.create_default_context(cafile=authority)


class ConfigMaps:
    """All ConfigMaps with some labels, in the pod's namespace; their keys are the files."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._server = config.get("server", "https://kubernetes.default.svc")
        account = pathlib.Path(config.get("account", _ACCOUNT))
        self._token = account / "token"
        self._context = (
            tls_context(str(account / "ca.crt")) if self._server.startswith("https") else None
        )
        namespace = (account / "namespace").read_text().strip()
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._selector = ",".join(f"{k}={v}" for k, v in sorted(config["labels"].items()))
        self._version = ""

    def _open(self, query: Mapping[str, str], timeout: float) -> Any:
        url = f"{self._server}{self._path}?" + urllib.parse.urlencode(
            {"labelSelector": self._selector, **query}
        )
        # The kubelet renews the token, so it is read each time.
        token = self._token.read_text().strip()
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        return urllib.request.urlopen(request, timeout=timeout, context=self._context)  # noqa: S310

    def read(self, most_bytes: int) -> Snapshot:
        """List them; a key that two of them have is an error."""
        try:
            with self._open({}, _CONNECT_SECONDS) as answer:
                listed = json.load(answer)
        except urllib.error.HTTPError as error:
            raise SourceError(f"listing ConfigMaps: {error.code} {error.reason}") from error
        self._version = listed["metadata"]["resourceVersion"]
        files: dict[str, bytes] = {}
        owners: dict[str, str] = {}
        for item in sorted(listed["items"], key=lambda item: str(item["metadata"]["name"])):
            name = item["metadata"]["name"]
            for key, text in (item.get("data") or {}).items():
                if key in files:
                    raise SourceError(f"ConfigMaps {owners[key]} and {name} both have {key}")
                files[key] = text.encode()
                owners[key] = name
        snapshot = Snapshot(files)
        if snapshot.size > most_bytes:
            raise SourceError(f"{snapshot.size} bytes are more than {most_bytes}")
        return snapshot

    def wait(self, seconds: float, changed: Callable[[], None]) -> None:
        """Watch from what was read last."""
        query = {
            "watch": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        try:
            # A socket that says nothing for longer is dead, whatever it looks like.
            with self._open(query, seconds + _WATCH_SLACK_SECONDS) as answer:
                for line in answer:
                    kind = json.loads(line)["type"]
                    if kind == "ERROR":
                        # Most often the version is too old: reading again gives a new one.
                        return
                    if kind != "BOOKMARK":
                        changed()
        except urllib.error.HTTPError as error:
            raise SourceError(f"watching ConfigMaps: {error.code} {error.reason}") from error


class HttpDocument:
    """One document: a JSON object of names and texts, or a single file."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._url = config["url"]
        self._file = config.get("file")
        self._authorization = config.get("authorization_file")
        self._context = tls_context(config.get("authority_file"))
        self._etag: str | None = None
        self._last: Snapshot | None = None

    def read(self, most_bytes: int) -> Snapshot:
        """Ask for the document; it need not send what has not changed."""
        headers = {}
        if self._etag is not None and self._last is not None:
            headers["If-None-Match"] = self._etag
        if self._authorization:
            headers["Authorization"] = pathlib.Path(self._authorization).read_text().strip()
        request = urllib.request.Request(self._url, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(  # noqa: S310
                request, timeout=_CONNECT_SECONDS, context=self._context
            ) as answer:
                body = answer.read(most_bytes + 1)
                etag = answer.headers.get("ETag")
        except urllib.error.HTTPError as error:
            if error.code == 304 and self._last is not None:  # noqa: PLR2004
                return self._last
            raise SourceError(f"{self._url}: {error.code} {error.reason}") from error
        if len(body) > most_bytes:
            raise SourceError(f"{self._url}: more than {most_bytes} bytes")
        self._last = self._snapshot(body)
        self._etag = etag
        return self._last

    def _snapshot(self, body: bytes) -> Snapshot:
        if self._file:
            return Snapshot({self._file: body})
        try:
            document = json.loads(body)
        except ValueError as error:
            raise SourceError(f"{self._url}: no JSON: {error}") from error
        if not isinstance(document, dict) or not all(isinstance(v, str) for v in document.values()):
            raise SourceError(f"{self._url}: must be an object of names and texts")
        return Snapshot({name: text.encode() for name, text in document.items()})

    def wait(self, seconds: float, changed: Callable[[], None]) -> None:  # noqa: ARG002
        """Nothing tells of a change; time passes."""
        time.sleep(seconds)
