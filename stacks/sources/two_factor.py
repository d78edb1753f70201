"""Two-factor authentication, as an event handler: a code for whoever logs in, by text message.

The book's handler, with what it needs to be trusted: the code comes from the code store, which
draws it with ``secrets`` and lets it end; the gateway's token is a file from a Secret; and an event
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
    """Whoever sends text messages."""

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
    """Whoever is asked answers: a token must not follow to another host."""

    def redirect_request(self, *_: Any) -> None:
        """Take the redirect for the answer, which is none of those that are good."""


_OPENER = urllib.request.build_opener(_NoRedirects)


def post(url: str, content: dict[str, str], headers: dict[str, str]) -> Any:
    """The JSON that a service answers with.

    An OSError where there is no whole answer; an HTTPError, which is one, for a status that is not
    from 200 to 299.
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
        raise OSError(f"{url}: the answer is not whole: {type(error).__name__}") from error


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
        # It has ended, or the user has asked for another: nobody waits for it any more.
        return {"status": "expired"}
    body = f"Hello {user} your authentication code is: {code}."
    (sms or HttpGateway.configured()).send(context.json["phoneNumber"], body, key)
    return {"status": "ok"}
