"""A function in front of a service: it changes requests on their way, and answers on their way back.

The function has the book's form: it takes the request's JSON, changes it, and returns
``call_my_api(obj)``. That function and ``random_name`` are there without being defined.
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
from function_runtime.service import Answered, Service, UnreachableError, same
from function_runtime.settings import Settings
from function_runtime.wsgi import HEADERS

_log = logging.getLogger("decorator")
# Made anew where the body is; the function must be able to read the answer.
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
    """A name for who came without one."""
    # No secret: it only has to be different most of the time.
    return f"{random.choice(_FIRST)}-{random.choice(_SECOND)}-{random.randrange(10000):04d}"  # noqa: S311


class AsItCameError(Exception):
    """The service's answer goes to the client as it came: it is a refusal, or no JSON."""

    def __init__(self, answered: Answered, why: str) -> None:
        super().__init__(why)
        self.answered = answered


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
                return _response(self._passed(context))
            return self._decorated(state)
        except AsItCameError as error:
            return _response(error.answered)
        except UnreachableError as error:
            _log.error("%s", error)
            return {"error": "the service behind does not answer"}, 502

    def _decorated(self, state: _Request) -> flask.typing.ResponseReturnValue:
        try:
            result = self._change(state.context)
            if self._response is not None:
                result = self._response(state.context, result)
            return _made(result, state.answered)
        except (AsItCameError, UnreachableError):
            raise
        except Exception:  # noqa: BLE001 (whatever it is, the client gets an answer)
            _log.exception("the decorator failed; fails %s", "open" if self._open else "closed")
            if not self._open:
                return {"error": "the decorator failed"}, 500
            if state.answered is not None:
                # The service has done its work: it is not asked again.
                return _response(state.answered)
            return _response(self._passed(state.context))

    def _passed(self, context: Context) -> Answered:
        """Ask the service with the request as it came."""
        return self._asked(context, _came(context), context.data)

    def _asked(self, context: Context, headers: list[tuple[str, str]], body: bytes) -> Answered:
        kept = [(k, v) for k, v in headers if k.lower() not in ("x-request-id", "traceparent")]
        kept += context.trace.items()
        request = context.request
        return self._service.call(request.method, request.environ["RAW_URI"], kept, body)

    def _call(self, obj: Any) -> Any:
        """The book's ``call_my_api``: what the service answers to the object, as JSON."""
        state: _Request = flask.g.state
        headers = [(k, v) for k, v in _came(state.context) if k.lower() not in _REPLACED]
        headers += [("Content-Type", "application/json"), ("Accept-Encoding", "identity")]
        body = json.dumps(obj, allow_nan=False).encode()
        state.answered = answered = self._asked(state.context, headers, body)
        if not answered.success:
            raise AsItCameError(answered, f"the service answered {answered.status}")
        try:
            return answered.json()
        except ValueError as error:
            # The service has done its work, whatever it says.
            raise AsItCameError(answered, f"the service answered no JSON: {error}") from error


def _came(context: Context) -> list[tuple[str, str]]:
    """The headers as they came."""
    headers: list[tuple[str, str]] = context.request.environ[HEADERS]
    return headers


def _response(answered: Answered) -> flask.Response:
    """The service's answer as it came."""
    response = flask.Response(answered.body, answered.status)
    response.headers = werkzeug.datastructures.Headers(answered.handed_on())
    return response


def _made(result: Any, answered: Answered | None) -> flask.Response:
    """The client's answer from what the function returned.

    An object has the status and the headers of the service's answer. What has a status of its own
    is an answer of its own.
    """
    # Flask refuses None with a message of its own: a decorator returns call_my_api(obj).
    response = flask.current_app.make_response(result)
    if answered is None or not isinstance(result, dict | list):
        return response
    if same(result, answered.json()):
        return _response(answered)
    kind = [("Content-Type", response.content_type)]
    headers = answered.changed()
    given = any(k.lower() == "content-type" for k, _ in headers)
    response.status_code = answered.status
    response.headers = werkzeug.datastructures.Headers([*headers, *([] if given else kind)])
    return response
