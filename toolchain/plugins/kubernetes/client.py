"""Requests to the API server: one connection pool, patience with a server that is away, watches."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InsecureRequestWarning,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    SSLError,
)

from toolchain.plugins.kubernetes.kubeconfig import Access, Login
from toolchain.plugins.provider.errors import ProviderError

if TYPE_CHECKING:
    from toolchain.plugins.provider.cancellation import Cancellation

JSON: Final = "application/json"
JSON_PATCH: Final = "application/json-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
# Every wait holds one; more than the pool keeps would be said on the user's screen.
_CONNECTIONS = 512
_CONNECT_SECONDS = 5.0
_BACKOFF_SECONDS = (0.1, 0.3, 1.0, 2.0)
_HTTP_UNAUTHORIZED = 401
_HTTP_NOT_FOUND = 404
_HTTP_CONFLICT = 409
_HTTP_ERROR = 400
# The server asks to come again; 500 is only a passing fault when etcd is its cause.
_COME_AGAIN = frozenset({429, 502, 503, 504})


class ApiError(ProviderError):
    """The API server's refusal."""

    def __init__(self, code: int, status: Mapping[str, Any], text: str) -> None:
        self.code = code
        self.reason = str(status.get("reason") or "")
        self.details: Mapping[str, Any] = status.get("details") or {}
        super().__init__(str(status.get("message") or text or f"HTTP status {code}"))

    @property
    def causes(self) -> list[Mapping[str, Any]]:
        """Single causes with ``field``, ``message`` and ``reason``."""
        return list(self.details.get("causes") or ())

    @property
    def not_found(self) -> bool:
        """Whether there is no such object (or path)."""
        return self.code == _HTTP_NOT_FOUND

    @property
    def already_exists(self) -> bool:
        """Whether an object of the name exists."""
        return self.code == _HTTP_CONFLICT and self.reason == "AlreadyExists"

    @property
    def conflict(self) -> bool:
        """Whether another field manager owns what was applied."""
        return self.code == _HTTP_CONFLICT and self.reason == "Conflict"


class UnreachableError(ProviderError):
    """The API server did not answer.

    :param sent: whether the request may have been carried out
    """

    def __init__(self, server: str, why: str, *, sent: bool) -> None:
        self.sent = sent
        super().__init__(f"the Kubernetes API server at {server} cannot be reached: {why}")


@dataclasses.dataclass(frozen=True)
class Event:
    """One line of a watch."""

    type: str
    object: dict[str, Any]


class Client:
    """Talks to one API server.

    :param timeout: seconds for one answer; None: 60
    :param on_warning: takes the server's warnings, such as of Pod Security
    """

    def __init__(
        self, access: Access, cancellation: Cancellation, timeout: float | None = None
    ) -> None:
        self.server = access.server
        self._access = access
        self._login = Login(access)
        self._cancellation = cancellation
        self._timeout = timeout or 60.0
        self._lock = threading.Lock()
        self._pool: urllib3.PoolManager | None = None
        # An answer resets it; a server that never answered, or no longer does, is given up sooner.
        self._answered = False

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        patience: float = 30.0,
        on_warning: Callable[[str], None] | None = None,
        text: bool = False,
    ) -> Any:
        """Sends one request and gives the decoded answer.

        Args:
            method: ``GET`` and so on.
            path: Below the server's address.
            query: Parameters after the question mark.
            body: Sent as JSON.
            content_type: Of the body.
            patience: Seconds to try again while the server is away; requests that may already
                have been carried out are only repeated if that does no harm (all but POST).
            on_warning: Takes each warning of the server.
            text: The answer is text and not JSON.

        Raises:
            ApiError: The server refused.
            UnreachableError: It did not answer.
            CancelledError: The user cancelled while it was away.
        """
        url = path + (f"?{urlencode(query)}" if query else "")
        until = time.monotonic() + (patience if self._answered else min(patience, 5.0))
        attempt = 0
        while True:
            pause = _BACKOFF_SECONDS[min(attempt, len(_BACKOFF_SECONDS) - 1)]
            attempt += 1
            try:
                response = self._send(method, url, body, content_type)
            except UnreachableError as error:
                if time.monotonic() + pause > until or (error.sent and method == "POST"):
                    self._answered = False
                    raise
                self._cancellation.sleep(pause)
                continue
            self._answered = True
            again = response.status in _COME_AGAIN or _is_passing(response)
            if again and time.monotonic() + pause < until:
                self._cancellation.sleep(_asked_pause(response, pause))
                continue
            if response.status == _HTTP_UNAUTHORIZED and attempt == 1:
                self._login.forget()
                continue
            return _answer(response, on_warning, text=text)

    def watch(
        self, path: str, query: Mapping[str, str], seconds: float
    ) -> tuple[Iterator[Event], Callable[[], None]]:
        """Follows a collection.

        Args:
            path: The collection.
            query: Selectors and the ``resourceVersion`` to start from.
            seconds: The server ends the watch after this time.

        Returns:
            The events, and a function that ends them from any thread.

        Raises:
            ApiError: The server refused.
            UnreachableError: It did not answer. While following, the events just end.
        """
        parameters = {
            **query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        response = self._send("GET", f"{path}?{urlencode(parameters)}", None, JSON, stream=seconds)
        if response.status >= _HTTP_ERROR:
            _answer(response, None)
        return _events(response), lambda: _shut(response)

    def _send(
        self,
        method: str,
        url: str,
        body: Any,
        content_type: str,
        stream: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": JSON, "User-Agent": "pulumi-kubernetes"}
        headers.update(self._login.credential().headers)
        content = None
        if body is not None:
            headers["Content-Type"] = content_type
            content = json.dumps(body).encode()
        try:
            return self._connections().request(
                method,
                self.server + url,
                body=content,
                headers=headers,
                retries=False,
                preload_content=stream is None,
                timeout=urllib3.Timeout(
                    connect=_CONNECT_SECONDS, read=(stream or self._timeout) + 5.0
                ),
            )
        except LocationParseError as error:
            raise ProviderError(f"the kubeconfig's server {self.server} is no URL") from error
        except SSLError as error:
            if "CERTIFICATE" not in str(error) and "ALERT" not in str(error).upper():
                raise UnreachableError(self.server, _short(error), sent=True) from error
            raise ProviderError(
                f"the Kubernetes API server at {self.server} is not the one that the kubeconfig "
                f"trusts, or refuses its certificate: {error}"
            ) from error
        except HTTPError as error:
            not_sent = isinstance(
                error, NewConnectionError | ConnectTimeoutError | NameResolutionError
            )
            raise UnreachableError(self.server, _short(error), sent=not not_sent) from error

    def _connections(self) -> urllib3.PoolManager:
        with self._lock:
            if self._pool is None:
                options: dict[str, Any] = {"maxsize": _CONNECTIONS, "num_pools": 1}
                if self.server.startswith("https:"):
                    options["ssl_context"] = self._access.ssl_context(self._login.credential())
                    name = self._access.cluster.get("tls-server-name")
                    if name:
                        options["server_hostname"] = options["assert_hostname"] = name
                if self._access.cluster.get("insecure-skip-tls-verify"):
                    # The kubeconfig says so; a line for every request would not change it.
                    urllib3.disable_warnings(InsecureRequestWarning)
                proxy = self._access.cluster.get("proxy-url")
                self._pool = (
                    urllib3.ProxyManager(proxy, **options)
                    if proxy
                    else urllib3.PoolManager(**options)
                )
            return self._pool


def _answer(
    response: urllib3.BaseHTTPResponse,
    on_warning: Callable[[str], None] | None,
    *,
    text: bool = False,
) -> Any:
    if on_warning is not None:
        for warning in response.headers.getlist("Warning"):
            on_warning(_warning(warning))
    content = response.data
    if response.status >= _HTTP_ERROR:
        raise _refusal(response.status, content)
    if text:
        return content.decode(errors="replace")
    return json.loads(content) if content else {}


def _refusal(code: int, content: bytes) -> ApiError:
    try:
        status = json.loads(content)
    except ValueError:
        status = {}
    if not isinstance(status, dict) or status.get("kind") != "Status":
        status = {}
    return ApiError(code, status, content[:500].decode(errors="replace").strip())


def _warning(header: str) -> str:
    """The text of ``299 - "text"``."""
    _, _, quoted = header.partition('"')
    return quoted.rstrip().removesuffix('"').replace('\\"', '"').replace("\\\\", "\\") or header


def _is_passing(response: urllib3.BaseHTTPResponse) -> bool:
    return response.status == 500 and b"etcdserver:" in response.data  # noqa: PLR2004


def _asked_pause(response: urllib3.BaseHTTPResponse, pause: float) -> float:
    asked = response.headers.get("Retry-After", "")
    return min(float(asked), 5.0) if asked.isdigit() else pause


def _events(response: urllib3.BaseHTTPResponse) -> Iterator[Event]:
    rest = b""
    try:
        for part in response.stream():
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                if line:
                    event = json.loads(line)
                    yield Event(event["type"], event["object"])
    except (HTTPError, OSError, ValueError):
        # The connection ended, from whichever side; the follower starts again if it still waits.
        return
    finally:
        response.close()


def _shut(response: urllib3.BaseHTTPResponse) -> None:
    try:
        response.shutdown()
    except (OSError, ValueError, RuntimeError):
        return


def _short(error: HTTPError) -> str:
    """Without the connection object that urllib3 puts in front."""
    message = str(error)
    if "object at 0x" in message or "HTTPSConnection(" in message:
        message = message.split(": ", 1)[-1]
    return message
