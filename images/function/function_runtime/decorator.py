"""A function in front of a service: it changes requests on their way, and answers on their way back.

The function has the book's form: it takes the request's JSON, changes it, and returns
``call_my_api(obj)``. That function and ``random_name`` are there without being defined.
"""

import http.client
import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flask

from function_runtime import source, upstream
from function_runtime.context import Context
from function_runtime.settings import Settings

_log = logging.getLogger("decorator")
# What is made anew, beside what belongs to one connection.
_OWN = upstream.HOPS | {"host", "x-request-id", "traceparent"}
_FIRST = ("amber", "brave", "calm", "daring", "eager", "fair", "gentle", "hardy", "keen", "lucky")
_SECOND = (
    "badger",
    "crane",
    "dolphin",
    "falcon",
    "heron",
    "lynx",
    "otter",
    "raven",
    "swift",
    "wren",
)
_SUCCESS = range(200, 300)


def random_name() -> str:
    """A name for who came without one."""
    # No secret: it only has to be different most of the time.
    return f"{random.choice(_FIRST)}-{random.choice(_SECOND)}-{random.randrange(10000):04d}"  # noqa: S311


@dataclass(frozen=True)
class Answered:
    """What the service answered."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def response(self) -> flask.Response:
        """As it came."""
        headers = [(k, v) for k, v in self.headers if k.lower() not in _OWN]
        return flask.Response(self.body, self.status, headers)


class RefusedError(Exception):
    """The service answered with something else than success; its answer goes to the client."""

    def __init__(self, answered: Answered) -> None:
        super().__init__(f"the service answered {answered.status}")
        self.answered = answered


class UnreachableError(Exception):
    """The service did not answer."""


class Service:
    """The service behind the decorator."""

    def __init__(self, address: str, timeout: float) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)
        self._timeout = timeout

    def call(self, context: Context, body: bytes, kind: str | None) -> Answered:
        """Send the request with another body; everything else stays as it came."""
        request = context.request
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _OWN}
        headers |= context.trace
        if kind is not None:
            headers["Content-Type"] = kind
        if body or request.method not in ("GET", "HEAD", "OPTIONS", "DELETE"):
            headers["Content-Length"] = str(len(body))
        # One connection a request: a Service spreads connections, and none is found closed.
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.request(request.method, request.full_path.rstrip("?"), body or None, headers)
            response = connection.getresponse()
            return Answered(response.status, tuple(response.getheaders()), response.read())
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self._host}:{self._port}: {error}") from error
        finally:
            connection.close()


class _Request:
    """How far one request has come."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.answered: Answered | None = None


class Decorator:
    """Calls the function, which calls the service."""

    def __init__(self, settings: Settings) -> None:
        self._service = Service(settings.upstream, settings.timeout)
        self._open = settings.on_failure == "open"
        module = source.load(
            settings.source, {"call_my_api": self._call, "random_name": random_name}
        )
        self._change = source.function(module, settings.target)
        self._response: Callable[..., Any] | None = None
        if settings.response:
            self._response = source.function(module, settings.response)

    def answer(self, context: Context) -> flask.typing.ResponseReturnValue:
        """Answer one request."""
        state = _Request(context)
        flask.g.state = state
        try:
            try:
                decorated = isinstance(context.json, dict)
            except Exception:
                if not self._open:
                    raise
                decorated = False
            if not decorated:
                # There is nothing to default: a GET, or a body that is no object.
                return self._service.call(context, context.data, None).response()
            return self._decorated(state)
        except RefusedError as error:
            return error.answered.response()
        except UnreachableError as error:
            _log.error("%s", error)
            return {"error": "the service behind does not answer"}, 502

    def _decorated(self, state: _Request) -> flask.typing.ResponseReturnValue:
        try:
            result = self._change(state.context)
            if self._response is not None:
                result = self._response(state.context, result)
            # Flask refuses None with a message of its own: a decorator returns call_my_api(obj).
            return flask.current_app.make_response(result)
        except (RefusedError, UnreachableError):
            raise
        except Exception:  # noqa: BLE001 (whatever it is, the client gets an answer)
            _log.exception("the decorator failed; fails %s", "open" if self._open else "closed")
            if not self._open:
                return {"error": "the decorator failed"}, 500
            if state.answered is not None:
                # The service has done its work: it is not asked again.
                return state.answered.response()
            return self._service.call(state.context, state.context.data, None).response()

    def _call(self, obj: Any) -> Any:
        """The book's ``call_my_api``: what the service answers to the object, as JSON."""
        state: _Request = flask.g.state
        answered = self._service.call(state.context, json.dumps(obj).encode(), "application/json")
        state.answered = answered
        if answered.status not in _SUCCESS:
            raise RefusedError(answered)
        return json.loads(answered.body) if answered.body.strip() else {}
