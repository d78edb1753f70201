"""etcd's JSON gateway, with user and token."""

import base64
import http.client
import json
import ssl
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = "root"
_UNAUTHENTICATED = 16
_STALE = ("invalid auth token", "revision of auth store is old", "user name is empty")


class GatewayError(Exception):
    """etcd refused the request."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnreachableError(Exception):
    """No endpoint answered; the request may have been carried out all the same."""


class Gateway:
    """One cluster's API. Requests go to the first endpoint that answers."""

    def __init__(
        self,
        endpoints: Sequence[str],
        authority: Path,
        password: Callable[[], str] | None = None,
        user: str = ROOT,
        timeout: float = 5,
    ) -> None:
        """Remember whom to ask.

        :param password: of ``user``; without, requests carry no token
        :param timeout: seconds for an answer
        """
        self.endpoints = list(endpoints)
        self._tls = ssl.create_default_context(cafile=str(authority))
        self._password = password
        self._user = user
        self._timeout = timeout
        self._token: str | None = None

    def call(self, path: str, body: dict[str, Any] | None = None, at: str | None = None) -> Any:
        """The answer to a request, as user if there is one.

        :param at: the one endpoint to ask, where it matters
        :raises GatewayError: it was refused
        :raises UnreachableError: nobody answered
        """
        for last in (False, True):
            if self._password is not None and self._token is None:
                self._token = self.authenticate(self._password())
            try:
                return self._ask(path, body or {}, at)
            except GatewayError as error:
                # A restarted member or a changed user makes tokens stale.
                if last or not any(text in str(error) for text in _STALE):
                    raise
                self._token = None
        raise AssertionError

    def authenticate(self, password: str) -> str | None:
        """A token for the user; None while authentication is not enabled."""
        try:
            answer = self._ask(
                "/v3/auth/authenticate", {"name": self._user, "password": password}, None
            )
        except GatewayError as error:
            if "authentication is not enabled" in str(error):
                return None
            raise
        return str(answer["token"])

    def stream(self, path: str, at: str) -> Iterator[dict[str, Any]]:
        """The parts of a long answer."""
        self.call("/v3/maintenance/status", at=at)
        with closing(self._connect(at)) as connection:
            connection.request("POST", path, b"{}", self._headers())
            response = connection.getresponse()
            for line in response:
                part = json.loads(line)
                if "error" in part:
                    raise GatewayError(part["error"].get("code", 0), part["error"]["message"])
                yield part["result"]

    def _ask(self, path: str, body: dict[str, Any], at: str | None) -> Any:
        reasons = []
        for endpoint in [at] if at else self.endpoints:
            try:
                with closing(self._connect(endpoint)) as connection:
                    connection.request("POST", path, json.dumps(body), self._headers())
                    response = connection.getresponse()
                    status, text = response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                reasons.append(f"{endpoint}: {error or type(error).__name__}")
                continue
            answer = json.loads(text or b"{}")
            if status == http.HTTPStatus.OK:
                return answer
            message = str(answer.get("message") or answer.get("error") or answer)
            if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
                reasons.append(f"{endpoint}: {message}")
                continue
            raise GatewayError(int(answer.get("code", 0)), message)
        raise UnreachableError("; ".join(reasons))

    def _connect(self, endpoint: str) -> http.client.HTTPSConnection:
        url = urllib.parse.urlsplit(endpoint)
        return http.client.HTTPSConnection(
            str(url.hostname), url.port, timeout=self._timeout, context=self._tls
        )

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = self._token
        return headers


def encoded(key: str) -> str:
    """A key as the gateway takes it."""
    return base64.b64encode(key.encode()).decode()


def end_of_prefix(prefix: str) -> str:
    """The first key after all that begin with ``prefix``, as the gateway takes it."""
    raw = bytearray(prefix.encode())
    # No byte of UTF-8 is the highest one.
    raw[-1] += 1
    return base64.b64encode(bytes(raw)).decode()
