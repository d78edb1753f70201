"""GET of a complete document, without credentials for other origins."""

import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from companions.config_sync.snapshot import SourceError

CONNECT_SECONDS = 10
WHOLE_SECONDS = 30
"""Timeout for a complete document; each single read has CONNECT_SECONDS."""


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port."""
    parts = urllib.parse.urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme, 0)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or default


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect."""

    def redirect_request(self, *_: Any) -> None:
        """Return the redirect itself as the response, which is an error."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but sends no credential to another origin and never leaves HTTPS."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any
    ) -> Any:
        scheme, _, _ = origin(newurl)
        if scheme not in ("http", "https") or (scheme == "http" and req.type == "https"):
            raise SourceError(f"{req.full_url} redirects to {newurl}, which is not HTTPS")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and origin(newurl) != origin(req.full_url):
            request.remove_header("Authorization")
        return request


def opened(
    url: str, headers: Mapping[str, str], context: ssl.SSLContext | None, seconds: float
) -> Any:
    """The response to a GET, whose body is not read yet.

    :param seconds: timeout of the connection, and of each read
    :raises urllib.error.HTTPError: the status is an error
    :raises OSError: the server does not respond
    :raises SourceError: it redirects from HTTPS to HTTP
    """
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _Redirects)
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310
    return opener.open(request, timeout=seconds)


def whole(url: str, answer: Any, most_bytes: int) -> bytes:
    """The complete body.

    :raises SourceError: the body is truncated, has more than ``most_bytes``, or takes too long
    """
    if answer.status != http.HTTPStatus.OK:
        # No content, or partial content.
        raise SourceError(f"{url}: {answer.status} is not a complete document")
    body = bytearray()
    until = time.monotonic() + WHOLE_SECONDS
    try:
        while piece := answer.read1(65536):
            body += piece
            if len(body) > most_bytes:
                raise SourceError(f"{url}: more than {most_bytes} bytes")
            if time.monotonic() > until:
                raise SourceError(f"{url}: not complete after {WHOLE_SECONDS} s")
    except http.client.HTTPException as error:
        raise SourceError(f"{url}: the response is truncated: {error!r}") from error
    # A connection that is closed early ends the read without an error.
    if answer.length:
        raise SourceError(f"{url}: the response is truncated, {answer.length} bytes are missing")
    return bytes(body)
