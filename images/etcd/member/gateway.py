"""A client of etcd's JSON gateway, with a user and its token."""

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
_PIECE_BYTES = 2**16
# Far more than any response here; a part of a snapshot has 32 KiB.
_ANSWER_BYTES = 2**24
_WRONG = "invalid user ID or password"
_STALE = ("invalid auth token", "revision of auth store is old", "user name is empty")


class GatewayError(Exception):
    """etcd refused the request."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def wrong_password(self) -> bool:
        """Whether etcd refused the user or the password."""
        return _WRONG in str(self)


class UnreachableError(Exception):
    """No endpoint responded; the request may have succeeded."""


class Gateway:
    """One cluster's API. Requests go to the first endpoint that responds."""

    def __init__(
        self,
        endpoints: Sequence[str],
        authority: Path,
        passwords: Callable[[], Sequence[str]] | None = None,
        user: str = ROOT,
        timeout: float = 5,
    ) -> None:
        """Describe the endpoints and the user.

        :param passwords: possible passwords of ``user``, in the order in which they are tried;
            without them, requests have no token
        :param timeout: seconds until the response
        """
        self.endpoints = list(endpoints)
        self._tls = ssl.create_default_context(cafile=str(authority))
        self._passwords = passwords
        self._user = user
        self._timeout = timeout
        self._token: str | None = None

    def call(self, path: str, body: dict[str, Any] | None = None, at: str | None = None) -> Any:
        """The response to a request, as the user if there is one.

        :param at: the endpoint. Defaults to the first that responds
        :raises GatewayError: etcd refused it
        :raises UnreachableError: no endpoint responded
        """
        for last in (False, True):
            if self._passwords is not None and self._token is None:
                self._token = self._authenticate_any(self._passwords())
            try:
                return self._send(path, body or {}, at)
            except GatewayError as error:
                # A restarted member or a changed user invalidates tokens.
                if last or not any(text in str(error) for text in _STALE):
                    raise
                self._token = None
        raise AssertionError

    def authenticate(self, password: str) -> str | None:
        """A token for the user; None while authentication is not enabled."""
        try:
            answer = self._send(
                "/v3/auth/authenticate", {"name": self._user, "password": password}, None
            )
        except GatewayError as error:
            if "authentication is not enabled" in str(error):
                return None
            raise
        return str(answer["token"])

    def _authenticate_any(self, passwords: Sequence[str]) -> str | None:
        *others, last = passwords
        for password in others:
            try:
                return self.authenticate(password)
            except GatewayError as error:
                if not error.wrong_password:
                    raise
        return self.authenticate(last)

    def stream(self, path: str, at: str) -> Iterator[dict[str, Any]]:
        """The parts of a streaming response.

        :raises GatewayError: etcd refused or canceled it
        :raises UnreachableError: no response, or a truncated one
        """
        # This replaces an invalid token.
        self.call("/v3/maintenance/status", at=at)
        try:
            with closing(self._connect(at)) as connection:
                connection.request("POST", path, b"{}", self._headers())
                response = connection.getresponse()
                if response.status != http.HTTPStatus.OK:
                    raise _refusal(_document(b"".join(pieces(response, _ANSWER_BYTES))))
                for line in _lines(response):
                    part = _document(line)
                    if "error" in part:
                        raise _refusal(part["error"])
                    yield part["result"]
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnreachableError(f"{at}: {error or type(error).__name__}") from error

    def _send(self, path: str, body: dict[str, Any], at: str | None) -> Any:
        reasons = []
        for endpoint in [at] if at else self.endpoints:
            try:
                with closing(self._connect(endpoint)) as connection:
                    connection.request("POST", path, json.dumps(body), self._headers())
                    response = connection.getresponse()
                    answer = _document(b"".join(pieces(response, _ANSWER_BYTES)))
            except (OSError, http.client.HTTPException, ValueError) as error:
                reasons.append(f"{endpoint}: {error or type(error).__name__}")
                continue
            if response.status == http.HTTPStatus.OK:
                return answer
            refusal = _refusal(answer)
            if response.status != http.HTTPStatus.SERVICE_UNAVAILABLE:
                raise refusal
            reasons.append(f"{endpoint}: {refusal}")
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


def pieces(response: http.client.HTTPResponse, limit: int | None = None) -> Iterator[bytes]:
    """The complete body, in pieces as they arrive.

    :param limit: maximum bytes. Defaults to no limit
    :raises OSError: the connection failed, or the body is longer
    :raises http.client.IncompleteRead: the body is truncated
    """
    size = 0
    # The response's own iteration would take a connection lost between two chunks for the end.
    while piece := response.read(_PIECE_BYTES):
        size += len(piece)
        if limit is not None and size > limit:
            raise OSError(f"a response of more than {limit} bytes")
        yield piece
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    rest = b""
    for piece in pieces(response):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _ANSWER_BYTES:
            raise OSError(f"a part of more than {_ANSWER_BYTES} bytes")
        yield from filter(None, lines)
    if rest:
        yield rest


def _document(text: bytes) -> dict[str, Any]:
    document = json.loads(text or b"{}")
    if not isinstance(document, dict):
        raise ValueError(f"expected a JSON object: {text[:100]!r}")  # noqa: TRY004
    return document


def _refusal(answer: dict[str, Any]) -> GatewayError:
    message = answer.get("message") or answer.get("error") or answer
    return GatewayError(int(answer.get("code", 0)), str(message))


def encoded(key: str) -> str:
    """A key in the gateway's encoding."""
    return base64.b64encode(key.encode()).decode()


def end_of_prefix(prefix: str) -> str:
    """The first key after all that begin with ``prefix``, in the gateway's encoding."""
    raw = bytearray(prefix.encode())
    # UTF-8 has no byte 0xff.
    raw[-1] += 1
    return base64.b64encode(bytes(raw)).decode()
