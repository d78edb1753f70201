"""A function in front of a service: it changes requests, and responses.

The function has the book's signature: it changes the request's JSON and returns
``call_my_api(obj)``. That function and ``random_name`` are predefined.
"""

import json
import logging
import random
from collections.abc import Callable
from typing import Any

import flask
import werkzeug.datastructures

from function_runtime import source
from function_runtime.context import Context
from function_runtime.service import Service, ServiceResponse, UnreachableError, same
from function_runtime.settings import Settings
from function_runtime.wsgi import HEADERS

_log = logging.getLogger("decorator")
# Replaced together with the body; the function must be able to read the response.
_REPLACED = frozenset({"content-type", "content-encoding", "accept-encoding"})
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


def random_name() -> str:
    """A random default name."""
    # Not a secret: it only has to be different most of the time.
    return f"{random.choice(_FIRST)}-{random.choice(_SECOND)}-{random.randrange(10000):04d}"  # noqa: S311


class PassThroughError(Exception):
    """The service's response goes to the client unchanged: it is an error, or not JSON."""

    def __init__(self, answered: ServiceResponse, why: str) -> None:
        super().__init__(why)
        self.answered = answered


class _Request:
    """The state of one request."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.answered: ServiceResponse | None = None


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
        """Handle one request."""
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
                # The function does not apply to a GET, or a body that is not an object.
                return _response(self._pass_through(context))
            return self._decorated(state)
        except PassThroughError as error:
            return _response(error.answered)
        except UnreachableError as error:
            _log.error("%s", error)
            return {"error": "the upstream service does not respond"}, 502

    def _decorated(self, state: _Request) -> flask.typing.ResponseReturnValue:
        try:
            result = self._change(state.context)
            if self._response is not None:
                result = self._response(state.context, result)
            return _made(result, state.answered)
        except (PassThroughError, UnreachableError):
            raise
        except Exception:  # noqa: BLE001 (the client gets a response for any error)
            _log.exception("the decorator failed; fails %s", "open" if self._open else "closed")
            if not self._open:
                return {"error": "the decorator failed"}, 500
            if state.answered is not None:
                # The service has processed the request: it is not sent again.
                return _response(state.answered)
            return _response(self._pass_through(state.context))

    def _pass_through(self, context: Context) -> ServiceResponse:
        """Forward the request unchanged."""
        return self._forward(context, _raw_headers(context), context.data)

    def _forward(
        self, context: Context, headers: list[tuple[str, str]], body: bytes
    ) -> ServiceResponse:
        kept = [(k, v) for k, v in headers if k.lower() not in ("x-request-id", "traceparent")]
        kept += context.trace.items()
        request = context.request
        return self._service.call(request.method, request.environ["RAW_URI"], kept, body)

    def _call(self, obj: Any) -> Any:
        """The book's ``call_my_api``: posts the object to the service, returns the response's JSON."""
        state: _Request = flask.g.state
        headers = [(k, v) for k, v in _raw_headers(state.context) if k.lower() not in _REPLACED]
        headers += [("Content-Type", "application/json"), ("Accept-Encoding", "identity")]
        body = json.dumps(obj, allow_nan=False).encode()
        state.answered = answered = self._forward(state.context, headers, body)
        if not answered.success:
            raise PassThroughError(answered, f"the service's response has status {answered.status}")
        try:
            return answered.json()
        except ValueError as error:
            # The service has processed the request, whatever it responds.
            raise PassThroughError(
                answered, f"the service's response is not JSON: {error}"
            ) from error


def _raw_headers(context: Context) -> list[tuple[str, str]]:
    """The request's headers, unchanged."""
    headers: list[tuple[str, str]] = context.request.environ[HEADERS]
    return headers


def _response(answered: ServiceResponse) -> flask.Response:
    """The service's response, unchanged."""
    response = flask.Response(answered.body, answered.status)
    response.headers = werkzeug.datastructures.Headers(answered.forwarded_headers())
    return response


def _made(result: Any, answered: ServiceResponse | None) -> flask.Response:
    """The client's response from the function's result.

    A JSON value gets the status and headers of the service's response. Any other result is the
    function's own response.
    """
    # Flask refuses None with its own message: a decorator must return call_my_api(obj).
    response = flask.current_app.make_response(result)
    if answered is None or not isinstance(result, dict | list):
        return response
    if same(result, answered.json()):
        return _response(answered)
    kind = [("Content-Type", response.content_type)]
    headers = answered.headers_of_new_body()
    given = any(k.lower() == "content-type" for k, _ in headers)
    response.status_code = answered.status
    response.headers = werkzeug.datastructures.Headers([*headers, *([] if given else kind)])
    return response
