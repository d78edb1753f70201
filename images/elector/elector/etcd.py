"""etcd's JSON gateway: leases, transactions and watches, with a user and its token.

The gateway authenticates a client only by the token of ``/v3/auth/authenticate``; a client
certificate's common name does not reach etcd's own authentication. A member forgets tokens when it
restarts and after some minutes without use, so a refused token is replaced and the request is
retried: it had no effect.
"""

import base64
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from elector.errors import RefusedError, StoreError
from elector.transport import Transport

_UNAUTHENTICATED = 16
_NOT_FOUND = 5
_STALE_TOKEN = ("invalid auth token", "auth store is old", "user name is empty")
# Of a watch, which is refused in a line of the stream, with or without the reason.
_STALE_TOKEN_OF_WATCH = (*_STALE_TOKEN, "permission denied")
# Password hashing is slow on purpose.
_AUTHENTICATION_SECONDS = 3.0
_AUTHENTICATIONS_SECONDS = 6.0


class CanceledError(StoreError):
    """etcd canceled a watch."""


class Gateway(Protocol):
    """The part of etcd's API that the locks need."""

    def call(
        self, path: str, body: Mapping[str, Any], within: float | None = None
    ) -> dict[str, Any]:
        """One request, for example to ``kv/txn``."""
        ...

    def stream(
        self,
        path: str,
        body: Mapping[str, Any],
        silence: float = 30.0,
        opened: Callable[[Callable[[], None]], None] | None = None,
    ) -> contextlib.AbstractContextManager[Iterator[dict[str, Any]]]:
        """The results of a streaming request, for example to ``watch``."""
        ...


class Etcd:
    """A client of the gateway."""

    def __init__(
        self, transport: Transport, username: str = "", password_file: Path | None = None
    ) -> None:
        """Create a client, with a user if etcd has authentication.

        :param password_file: read at each authentication, so that it can be rotated
        """
        self._transport = transport
        self._username = username
        self._password_file = password_file
        self._token = ""
        self._mutex = threading.Lock()

    def call(
        self, path: str, body: Mapping[str, Any], within: float | None = None
    ) -> dict[str, Any]:
        """One request below ``/v3/``.

        :param within: seconds for attempts at all members
        :raises StoreError: no member responded
        :raises RefusedError: etcd refused the request
        """
        token = self._token or self._authenticate("")
        try:
            return self._transport.request(
                "POST", f"/v3/{path}", body, self._headers(token), within
            ).content
        except RefusedError as error:
            if not self._stale(error):
                raise
        token = self._authenticate(token)
        return self._transport.request(
            "POST", f"/v3/{path}", body, self._headers(token), within
        ).content

    @contextmanager
    def stream(
        self,
        path: str,
        body: Mapping[str, Any],
        silence: float = 30.0,
        opened: Callable[[Callable[[], None]], None] | None = None,
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """The results of a streaming request below ``/v3/``.

        A member that loses its leader ends the stream instead of staying silent.
        """
        token = self._token or self._authenticate("")
        headers = {**self._headers(token), "Grpc-Metadata-hasleader": "true"}
        try:
            with self._transport.lines(
                "POST", f"/v3/{path}", body, headers, silence, opened
            ) as lines:
                yield self._results(lines)
        except CanceledError as error:
            if any(words in str(error) for words in _STALE_TOKEN_OF_WATCH):
                self._authenticate(token)
            raise
        except RefusedError as error:
            if self._stale(error):
                self._authenticate(token)
            raise

    def _results(self, lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for line in lines:
            if "error" in line:
                error = line["error"]
                raise RefusedError(
                    int(error.get("http_code", 0)),
                    int(error.get("code", error.get("grpc_code", 0))),
                    str(error.get("message", error)),
                )
            result = line.get("result", {})
            if result.get("canceled"):
                # From a member that has restarted and does not know the token, or that has
                # compacted the requested revision.
                raise CanceledError(str(result.get("cancel_reason") or result))
            yield result

    def _headers(self, token: str) -> dict[str, str]:
        return {"Authorization": token} if token else {}

    def _stale(self, error: RefusedError) -> bool:
        if not self._username:
            return False
        return error.code == _UNAUTHENTICATED or any(t in error.message for t in _STALE_TOKEN)

    def _authenticate(self, stale: str) -> str:
        """A token that is not the stale one; empty without a user."""
        if not self._username or self._password_file is None:
            return ""
        with self._mutex:
            # Another thread may have authenticated meanwhile.
            if self._token and self._token != stale:
                return self._token
            password = self._password_file.read_text(encoding="utf-8").strip()
            answer = self._transport.request(
                "POST",
                "/v3/auth/authenticate",
                {"name": self._username, "password": password},
                within=_AUTHENTICATIONS_SECONDS,
                attempt=_AUTHENTICATION_SECONDS,
            )
            self._token = str(answer.content["token"])
            return self._token


def encoded(text: str) -> str:
    """A key or value in the gateway's encoding."""
    return base64.b64encode(text.encode()).decode()


def decoded(text: str) -> str:
    """A key or value decoded."""
    return base64.b64decode(text).decode(errors="replace")


def grant_lease(etcd: Gateway, seconds: int, within: float | None = None) -> tuple[str, float]:
    """A new lease: its id and its TTL in seconds (etcd may grant more than requested)."""
    answer = etcd.call("lease/grant", {"TTL": seconds}, within)
    return str(answer["ID"]), float(answer["TTL"])


def keep_alive(etcd: Gateway, lease: str, within: float | None = None) -> float:
    """Renew the lease; returns its TTL in seconds, 0 if the lease does not exist."""
    # The request is a stream with one message, so its response is one line.
    answer = etcd.call("lease/keepalive", {"ID": lease}, within)
    if "result" not in answer:
        raise StoreError(f"no response to a keepalive: {str(answer)[:80]}")
    return float(answer["result"].get("TTL", 0))


def revoke_lease(etcd: Gateway, lease: str, within: float | None = None) -> bool:
    """Revoke the lease, which deletes its keys; False if it did not exist."""
    try:
        etcd.call("lease/revoke", {"ID": lease}, within)
    except RefusedError as error:
        if error.code != _NOT_FOUND:
            raise
        return False
    return True


def get(etcd: Gateway, key: str, within: float | None = None) -> tuple[dict[str, Any] | None, int]:
    """The key's entry, if it exists, and the revision of the read."""
    answer = etcd.call("kv/range", {"key": encoded(key)}, within)
    entries = answer.get("kvs", [])
    return (entries[0] if entries else None), revision(answer)


def revision(answer: Mapping[str, Any]) -> int:
    """The store's revision in a response."""
    return int(answer["header"]["revision"])
