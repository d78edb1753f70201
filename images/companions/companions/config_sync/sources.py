"""The sources of files."""

import base64
import http.client
import json
import pathlib
import ssl
import time
import urllib.error
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from companions.config_sync.fetch import CONNECT_SECONDS, opened, whole
from companions.config_sync.snapshot import Snapshot, SourceError, log_left_out

_ACCOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
# In a list, texts are escaped, and repeated in managed fields and annotations.
_LIST_FACTOR, _LIST_BYTES = 8, 1 << 20
# A watch that the API server has not ended so long after its timeout is considered dead.
_WATCH_SLACK_SECONDS = 6


class Source(Protocol):
    """A source of files."""

    def read(self, most_bytes: int) -> Snapshot:
        """Read all files. Raises SourceError or OSError."""

    def wait(self, seconds: float, changed: Callable[[], None]) -> None:
        """Watch for ``seconds``, and call ``changed`` at each change. Raises like ``read``."""


def source_of(config: Mapping[str, Any]) -> Source:
    """The source that the configuration describes."""
    kind = config["kind"]
    if kind == "config_map":
        return ConfigMaps(config)
    if kind == "http":
        return HttpDocument(config)
    # Only this source needs dulwich.
    from companions.config_sync.repository import Repository  # noqa: PLC0415

    return Repository(config)


def tls_context(authority: str | None) -> ssl.SSLContext:
    """A TLS context that verifies the server's certificate."""
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
        # The kubelet rotates the token, so it is read each time.
        token = self._token.read_text().strip()
        return opened(url, {"Authorization": f"Bearer {token}"}, self._context, timeout)

    def read(self, most_bytes: int) -> Snapshot:
        """List the ConfigMaps; a key in two of them is an error."""
        try:
            with self._open({}, CONNECT_SECONDS) as answer:
                most = _LIST_FACTOR * most_bytes + _LIST_BYTES
                listed = json.loads(whole("the list of ConfigMaps", answer, most))
        except urllib.error.HTTPError as error:
            raise SourceError(f"listing ConfigMaps: {error.code} {error.reason}") from error
        self._version = listed["metadata"]["resourceVersion"]
        files: dict[str, bytes] = {}
        owners: dict[str, str] = {}
        for item in sorted(listed["items"], key=lambda item: str(item["metadata"]["name"])):
            name = item["metadata"]["name"]
            for key, content in _contents(item).items():
                if key in files:
                    raise SourceError(f"ConfigMaps {owners[key]} and {name} both have {key}")
                files[key] = content
                owners[key] = name
        snapshot = Snapshot(files)
        if snapshot.size > most_bytes:
            raise SourceError(f"{snapshot.size} bytes exceed the limit of {most_bytes}")
        return snapshot

    def wait(self, seconds: float, changed: Callable[[], None]) -> None:
        """Watch from the resource version of the last list."""
        query = {
            "watch": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        try:
            # A socket that is silent for longer is considered dead.
            with self._open(query, seconds + _WATCH_SLACK_SECONDS) as answer:
                for line in answer:
                    kind = json.loads(line)["type"]
                    if kind == "ERROR":
                        # Most often the resource version is too old: the next list gives a new one.
                        return
                    if kind != "BOOKMARK":
                        changed()
        except urllib.error.HTTPError as error:
            raise SourceError(f"watching ConfigMaps: {error.code} {error.reason}") from error
        except http.client.HTTPException as error:
            raise SourceError(
                f"watching ConfigMaps: the response is truncated: {error!r}"
            ) from error


def _contents(item: Mapping[str, Any]) -> dict[str, bytes]:
    """The keys of one ConfigMap, those of its ``binaryData`` included."""
    texts = {key: text.encode() for key, text in (item.get("data") or {}).items()}
    encoded = item.get("binaryData") or {}
    return texts | {key: base64.b64decode(text) for key, text in encoded.items()}


class HttpDocument:
    """One document over HTTP: a JSON object of names and texts, or a single file."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._url = config["url"]
        self._file = config.get("file")
        self._authorization = config.get("authorization_file")
        self._context = tls_context(config.get("authority_file"))
        self._etag: str | None = None
        self._last: Snapshot | None = None

    def read(self, most_bytes: int) -> Snapshot:
        """GET the document, unless its ETag is unchanged."""
        headers = {}
        if self._etag is not None and self._last is not None:
            headers["If-None-Match"] = self._etag
        if self._authorization:
            headers["Authorization"] = pathlib.Path(self._authorization).read_text().strip()
        try:
            with opened(self._url, headers, self._context, CONNECT_SECONDS) as answer:
                body = whole(self._url, answer, most_bytes)
                etag = answer.headers.get("ETag")
        except urllib.error.HTTPError as error:
            if error.code == 304 and self._last is not None:  # noqa: PLR2004
                return self._last
            raise SourceError(f"{self._url}: {error.code} {error.reason}") from error
        # The ETag is kept only after the document has proved valid.
        self._last = self._snapshot(body)
        self._etag = etag
        return self._last

    def _snapshot(self, body: bytes) -> Snapshot:
        if self._file:
            return Snapshot({self._file: body})
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{self._url}: invalid JSON: {error}") from error
        if not isinstance(document, dict) or not all(isinstance(v, str) for v in document.values()):
            raise SourceError(f"{self._url}: must be an object of names and texts")
        files: dict[str, bytes] = {}
        for name, text in document.items():
            try:
                files[name] = text.encode()
            except UnicodeEncodeError:
                # A lone surrogate, which JSON allows and UTF-8 does not.
                log_left_out(self._url, name)
        return Snapshot.with_valid_names(self._url, files)

    def wait(self, seconds: float, changed: Callable[[], None]) -> None:  # noqa: ARG002
        """Sleep: an HTTP server reports no changes."""
        time.sleep(seconds)
