"""GET of a document that is whole, from where it was asked for."""

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
"""For all of a document; each read of a part of it has CONNECT_SECONDS."""


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port."""
    parts = urllib.parse.urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme, 0)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or default


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Whoever is asked answers."""

    def redirect_request(self, *_: Any) -> None:
        """Take the redirect for the answer, which is none of success."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows, but takes no credential to another origin and leaves HTTPS for nothing."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any
    ) -> Any:
        scheme, _, _ = origin(newurl)
        if scheme not in ("http", "https") or (scheme == "http" and req.type == "https"):
            raise SourceError(f"{req.full_url} leads to {newurl}, which is not HTTPS")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and origin(newurl) != origin(req.full_url):
            request.remove_header("Authorization")
        return request


def opened(
    url: str, headers: Mapping[str, str], context: ssl.SSLContext | None, seconds: float
) -> Any:
    """An answer to a GET, whose body is not read yet.

    :param seconds: for the connection, and for each read
    :raises urllib.error.HTTPError: the status is none of success
    :raises OSError: nobody answers
    :raises SourceError: it leads away from HTTPS
    """
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _Redirects)
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310
    return opener.open(request, timeout=seconds)


def whole(url: str, answer: Any, most_bytes: int) -> bytes:
    """The body to its end.

    :raises SourceError: it breaks off before, has more bytes than that, or takes too long
    """
    if answer.status != http.HTTPStatus.OK:
        # Nothing, or a part, of what there is.
        raise SourceError(f"{url}: {answer.status} is no whole document")
    body = bytearray()
    until = time.monotonic() + WHOLE_SECONDS
    try:
        while piece := answer.read1(65536):
            body += piece
            if len(body) > most_bytes:
                raise SourceError(f"{url}: more than {most_bytes} bytes")
            if time.monotonic() > until:
                raise SourceError(f"{url}: not whole after {WHOLE_SECONDS} s")
    except http.client.HTTPException as error:
        raise SourceError(f"{url}: the answer breaks off: {error!r}") from error
    # The end of the connection is the end of a read, however much was announced.
    if answer.length:
        raise SourceError(f"{url}: the answer breaks off, {answer.length} bytes are missing")
    return bytes(body)
