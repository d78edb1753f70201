"""Two-factor authentication, as an event handler: a code for the user, by text message.

The book's handler, with what it needs to be trusted: the code comes from the code store, which
generates it with ``secrets`` and lets it expire; the gateway's token is a file from a Secret; and an event
that is delivered again sends the same code with the same key, which the gateway sends once.

Environment: CODES_URL, SMS_URL, SMS_ACCOUNT, SMS_FROM, SMS_TOKEN_FILE.
"""

import base64
import http.client
import json
import os
import pathlib
import urllib.error
import urllib.request
from typing import Any, Protocol


class SmsProvider(Protocol):
    """A service that sends text messages."""

    def send(self, to: str, body: str, key: str) -> None:
        """Send a message, once for each key. Raises OSError where it is not known to be sent."""


class HttpGateway:
    """A gateway with an HTTP API: JSON, basic authentication, and a key for repeated requests."""

    def __init__(self, url: str, account: str, token: str, sender: str) -> None:
        self._url = url
        self._login = base64.b64encode(f"{account}:{token}".encode()).decode()
        self._sender = sender

    @classmethod
    def configured(cls) -> "HttpGateway":
        """The gateway that the environment names. A rotated token is read anew."""
        token = pathlib.Path(os.environ["SMS_TOKEN_FILE"]).read_text(encoding="utf-8").strip()
        return cls(os.environ["SMS_URL"], os.environ["SMS_ACCOUNT"], token, os.environ["SMS_FROM"])

    def send(self, to: str, body: str, key: str) -> None:
        """See SmsProvider."""
        headers = {"Authorization": f"Basic {self._login}", "Idempotency-Key": key}
        post(self._url, {"to": to, "from": self._sender, "body": body}, headers)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """No redirects are followed: the token must not be sent to another host."""

    def redirect_request(self, *_: Any) -> None:
        """Treat the redirect as the response, which is then an error."""


_OPENER = urllib.request.build_opener(_NoRedirects)


def post(url: str, content: dict[str, str], headers: dict[str, str]) -> Any:
    """The JSON of a service's response.

    An OSError without a complete response; an HTTPError, a kind of it, for a status that is not from
    200 to 299.
    """
    request = urllib.request.Request(  # noqa: S310 (the URLs are the operator's)
        url, json.dumps(content).encode(), {"Content-Type": "application/json", **headers}
    )
    try:
        with _OPENER.open(request, timeout=5) as answer:
            return json.loads(answer.read())
    except (http.client.HTTPException, ValueError) as error:
        if isinstance(error, OSError):
            raise
        raise OSError(f"{url}: the response is incomplete: {type(error).__name__}") from error


def two_factor(context: Any, sms: SmsProvider | None = None) -> dict[str, str]:
    """Send the user of the event a code."""
    user = context.json["user"]
    key = context.headers["Idempotency-Key"]
    try:
        asked = {"user": user, "key": key}
        if when := context.headers.get("ce-time"):
            asked["time"] = when
        code = post(os.environ["CODES_URL"], asked, {})["code"]
    except urllib.error.HTTPError as error:
        if error.code != 410:  # noqa: PLR2004 (Gone)
            raise
        # The code has expired, or the user has requested another: it is no longer needed.
        return {"status": "expired"}
    body = f"Hello {user} your authentication code is: {code}."
    (sms or HttpGateway.configured()).send(context.json["phoneNumber"], body, key)
    return {"status": "ok"}
