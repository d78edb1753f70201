"""HTTP to a store with several endpoints: short attempts at each in turn, with one deadline."""

import contextlib
import json
import queue
import random
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from elector.belief import Clock, monotonic
from elector.errors import RefusedError, StoreError

_SERVER_ERROR = 500
_CLIENT_ERROR = 400
# TCP keepalive detects a vanished peer within five seconds, on streams too. The timeouts are for a
# peer that is there and silent.
_KEEPALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Set the socket options on every connection."""
        super().init_poolmanager(*args, **kwargs, socket_options=_KEEPALIVE)


@dataclass(frozen=True)
class Answer:
    """A complete response of the store."""

    content: dict[str, Any]
    endpoint: str


class Transport:
    """Sends requests to the first endpoint that responds.

    A session is used by one thread at a time and returns to the pool with its connection open,
    so that a renewal or a release needs no handshake.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        verify: str | bool = True,
        attempt_seconds: float = 1.0,
        clock: Clock = monotonic,
    ) -> None:
        """Describe the endpoints.

        :param endpoints: URLs without a path
        :param verify: file with the CA's certificate
        :param attempt_seconds: timeout of one endpoint, to connect and to respond
        """
        if not endpoints:
            raise ValueError("at least one endpoint is required")
        self.endpoints = [endpoint.rstrip("/") for endpoint in endpoints]
        self.attempt_seconds = attempt_seconds
        self._verify = verify
        self._clock = clock
        # Spread the candidates over the members.
        self._current = random.randrange(len(self.endpoints))  # noqa: S311 (no secret)
        self._streaming = random.randrange(len(self.endpoints))  # noqa: S311
        self._idle: queue.LifoQueue[requests.Session] = queue.LifoQueue()

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        within: float | None = None,
        attempt: float | None = None,
    ) -> Answer:
        """The response of the first endpoint that responds.

        :param within: seconds for all attempts. Defaults to one attempt at each endpoint
        :param attempt: seconds for one attempt. Defaults to ``attempt_seconds``
        :raises RefusedError: the store refused the request
        :raises StoreError: no endpoint responded; the request may have succeeded
        """
        if attempt is None:
            attempt = self.attempt_seconds
        if within is None:
            within = attempt * len(self.endpoints)
        deadline = self._clock() + within
        reasons: list[str] = []
        for _ in self.endpoints:
            left = deadline - self._clock()
            if left <= 0:
                break
            index = self._current
            endpoint = self.endpoints[index]
            try:
                return Answer(
                    self._once(method, endpoint, path, body, headers, min(attempt, left)),
                    endpoint,
                )
            except StoreError as error:
                reasons.append(f"{endpoint}: {error}")
                # Another thread may have switched already.
                if self._current == index:
                    self._current = (index + 1) % len(self.endpoints)
        raise StoreError("; ".join(reasons) or f"no time left for {path}")

    def _once(
        self,
        method: str,
        endpoint: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        timeout: float,
    ) -> dict[str, Any]:
        try:
            session = self._idle.get_nowait()
        except queue.Empty:
            session = self._session()
        try:
            response = session.request(
                method, endpoint + path, json=body, headers=dict(headers or {}), timeout=timeout
            )
            content = _decoded(response)
        except (requests.RequestException, OSError, ValueError) as error:
            # A late response must not be read as that of the next request.
            session.close()
            raise StoreError(_short(error)) from None
        self._idle.put(session)
        _check(response.status_code, content)
        return content

    @contextmanager
    def lines(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        silence: float = 30.0,
        opened: Callable[[Callable[[], None]], None] | None = None,
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """The JSON lines of a streaming response.

        :param silence: seconds without a line after which the stream ends, without an error; the
            next stream uses another endpoint, for this one may be stalled
        :param opened: called with a function that another thread may call to end the stream
        :raises RefusedError: the store refused the request
        :raises StoreError: the stream failed; the next stream uses another endpoint
        """
        endpoint = self.endpoints[self._streaming]
        session = self._session()
        try:
            response = session.request(
                method,
                endpoint + path,
                json=body,
                headers=dict(headers or {}),
                timeout=(self.attempt_seconds, silence),
                stream=True,
            )
            if response.status_code >= _CLIENT_ERROR:
                _check(response.status_code, _decoded(response))
            if opened is not None:
                opened(lambda: _break(response))
            yield _lines(response, self._stream_elsewhere)
        except StoreError:
            self._stream_elsewhere()
            raise
        except (requests.RequestException, OSError, ValueError) as error:
            self._stream_elsewhere()
            raise StoreError(f"{endpoint}: {_short(error)}") from None
        finally:
            session.close()

    def _stream_elsewhere(self) -> None:
        self._streaming = (self._streaming + 1) % len(self.endpoints)

    def close(self) -> None:
        """Close the idle connections."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _session(self) -> requests.Session:
        session = requests.Session()
        # The environment's proxies and CA bundles are for the internet.
        session.trust_env = False
        session.verify = self._verify
        adapter = _Adapter(pool_connections=len(self.endpoints), pool_maxsize=1, max_retries=0)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session


def _lines(response: requests.Response, silent: Callable[[], None]) -> Iterator[dict[str, Any]]:
    try:
        for line in response.iter_lines():
            if line:
                content = json.loads(line)
                if not isinstance(content, dict):
                    raise ValueError(f"not a JSON object: {line[:80]!r}")
                yield content
    except requests.ConnectionError as error:
        # requests has no exception type for a read timeout of a stream.
        if "timed out" in str(error).lower():
            silent()
            return
        raise


def _break(response: requests.Response) -> None:
    """Wake the thread that reads the stream, which is only possible through its socket."""
    connection = getattr(response.raw, "_connection", None)
    found = getattr(connection, "sock", None)
    if isinstance(found, socket.socket):
        with contextlib.suppress(OSError):
            found.shutdown(socket.SHUT_RDWR)


def _decoded(response: requests.Response) -> dict[str, Any]:
    # A keepalive's response is a stream of one line. Only a refusal may have no body.
    refused = response.status_code >= _CLIENT_ERROR
    content = json.loads(response.content or (b"{}" if refused else b""))
    if not isinstance(content, dict):
        # As for invalid JSON.
        raise ValueError(f"not a JSON object: {response.content[:80]!r}")  # noqa: TRY004
    return content


def _check(status: int, content: Mapping[str, Any]) -> None:
    if status < _CLIENT_ERROR:
        return
    error = content.get("error")
    inner = error if isinstance(error, dict) else content
    code = inner.get("code", 0)
    message = str(inner.get("message") or error or content)[:300]
    if status >= _SERVER_ERROR:
        raise StoreError(f"{status}: {message}")
    raise RefusedError(status, code if isinstance(code, int) else 0, message)


def _short(error: BaseException) -> str:
    """The innermost cause: the outer ones repeat the address."""
    reason: BaseException = error
    while (inner := reason.__cause__ or reason.__context__) is not None:
        reason = inner
    return f"{type(error).__name__}: {reason}"[:300]
