"""A fake SMS gateway: it stores messages instead of sending them.

POST /messages   {"to": ..., "from": ..., "body": ...} with basic authentication and the header
                 Idempotency-Key. A repeated key gets the first response and is not sent again, as
                 with real gateways.
GET  /inbox      the messages that would have been sent, in order, and the number of requests.
POST /behave     {"down": seconds} responds with 503 for so long, with {"to": number} only for
                 messages to that number; {"lose": count} sends so many messages without a
                 response, with {"to": number} only to that one; {"keys": false} sends repeated
                 requests again, like a gateway without idempotency keys.

Environment: PORT (8080), ACCOUNT (account), TOKEN_FILE.
"""

import base64
import hmac
import http.server
import json
import math
import os
import pathlib
import threading
import time
from typing import Any

import serving

_ALL = ""


class RequestError(Exception):
    """An invalid request, with the reason."""


class Gateway:
    """The stored messages and the behaviour."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys = True
        self._lost: dict[str, int] = {}
        self._by_key: dict[str, dict[str, Any]] = {}
        self._sent: list[dict[str, Any]] = []
        self._requests = 0
        self._refused = 0
        self._down_until: dict[str, float] = {}

    def behave(self, given: dict[str, Any]) -> None:
        """Change the behaviour; keys that are not given stay."""
        to = given.get("to", _ALL)
        with self._lock:
            if "down" in given:
                self._down_until[to] = time.monotonic() + float(given["down"])
            if "lose" in given:
                self._lost[to] = int(given["lose"])
            self._keys = bool(given.get("keys", self._keys))

    def loses_response(self, to: str) -> bool:
        """Whether the response to a message to this number is lost."""
        with self._lock:
            for number in (to, _ALL):
                if self._lost.get(number, 0) > 0:
                    self._lost[number] -= 1
                    return True
        return False

    def send(self, message: dict[str, str], key: str) -> dict[str, Any] | None:
        """The sent message; None while the gateway is down."""
        with self._lock:
            self._requests += 1
            if any(
                time.monotonic() < self._down_until.get(to, 0.0) for to in (_ALL, message["to"])
            ):
                self._refused += 1
                return None
            known = self._by_key.get(key)
            if known is None or not key or not self._keys:
                known = {"number": len(self._sent) + 1, "at": time.time(), **message}
                self._by_key[key] = known
                self._sent.append(known)
            return known

    def inbox(self) -> dict[str, Any]:
        """All messages and counters."""
        with self._lock:
            return {
                "messages": list(self._sent), "requests": self._requests, "refused": self._refused,
            }  # fmt: skip


def checked_message(given: dict[str, Any]) -> dict[str, str]:
    """A message's members; others are ignored.

    :raises RequestError: one is missing or not a string
    """
    message = {name: given.get(name) for name in ("to", "from", "body")}
    if not all(isinstance(part, str) for part in message.values()):
        raise RequestError("must be a JSON object with to, from and body, each a string")
    return message


def checked_behaviour(given: dict[str, Any]) -> dict[str, Any]:
    """Validated behaviour.

    :raises RequestError: an invalid value
    """
    if not isinstance(given.get("to", _ALL), str):
        raise RequestError("to must be a number, as a string")
    down, lose = given.get("down", 0), given.get("lose", 0)
    if isinstance(down, bool) or not isinstance(down, int | float) or not _finite(down):
        raise RequestError("down must be a number of seconds")
    if isinstance(lose, bool) or not isinstance(lose, int):
        raise RequestError("lose must be an integer")
    if not isinstance(given.get("keys", True), bool):
        raise RequestError("keys must be true or false")
    return given


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        # An integer may exceed a float's range.
        return False


def _object(text: bytes) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise RequestError("the body must be a JSON object")
    return given


class Handler(serving.Handler):
    """The HTTP API."""

    def do_GET(self) -> None:
        """The inbox, and probes."""
        if self.path == "/inbox":
            self.answer(200, self.server.gateway.inbox())  # type: ignore[attr-defined]
        elif self.path in ("/livez", "/readyz"):
            self.answer(200, {"ok": True})
        else:
            self.answer(404, {"error": "not /inbox"})

    def do_POST(self) -> None:
        """Send a message, or change the behaviour."""
        checked = {"/behave": checked_behaviour, "/messages": checked_message}.get(self.path)
        if checked is None:
            self.answer(404, {"error": "not /messages or /behave"})
            return
        try:
            given = checked(_object(self.body))
        except RequestError as error:
            self.answer(400, {"error": str(error)})
            return
        gateway: Gateway = self.server.gateway  # type: ignore[attr-defined]
        if self.path == "/behave":
            gateway.behave(given)
            self.answer(200, given)
        elif not self._authentic():
            self.answer(401, {"error": "wrong account or token"})
        elif (sent := gateway.send(given, self.headers.get("Idempotency-Key", ""))) is None:
            self.answer(503, {"error": "down"})
        elif gateway.loses_response(given["to"]):
            self.close_connection = True
        else:
            self.answer(201, sent)

    def _authentic(self) -> bool:
        expected = base64.b64encode(self.server.login.encode()).decode()  # type: ignore[attr-defined]
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        return hmac.compare_digest(given.encode(), expected.encode())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log only errors: probes are frequent."""
        if int(code) >= http.HTTPStatus.BAD_REQUEST:
            super().log_request(code, size)


class Server(serving.Server):
    """The HTTP server of a gateway."""

    def __init__(self, port: int, gateway: Gateway, login: str) -> None:
        super().__init__("", port, Handler)
        self.gateway = gateway
        self.login = login


def main() -> None:
    """Serve until SIGTERM."""
    token = pathlib.Path(os.environ["TOKEN_FILE"]).read_text().strip()
    login = f"{os.environ.get('ACCOUNT', 'account')}:{token}"
    Server(int(os.environ.get("PORT", "8080")), Gateway(), login).run()


if __name__ == "__main__":
    main()
