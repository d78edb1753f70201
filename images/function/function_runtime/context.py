"""The argument of a function with the book's signature: ``def handler(context)``."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import flask
import werkzeug.exceptions
from cloudevents.exceptions import GenericException
from cloudevents.http import from_http

from function_runtime import identity
from function_runtime.identity import Identity
from function_runtime.json_text import parsed

_STRUCTURED = "application/cloudevents+json"


class Context:
    """One request or event."""

    def __init__(self, request: flask.Request) -> None:
        self.request = request
        """Flask's request."""
        self.data = request.get_data()
        """The raw body."""
        self.headers: Mapping[str, str] = request.headers
        """The request's headers."""
        self._identity = identity.current.get() or identity.of(request.headers)

    @property
    def identity(self) -> Identity:
        """Ids of the request."""
        return self._identity

    @property
    def request_id(self) -> str:
        """The id of the request or event, which its calls pass on."""
        return self._identity.request_id

    @property
    def trace(self) -> dict[str, str]:
        """Headers to send with every call that the function makes."""
        return self._identity.headers

    @cached_property
    def event(self) -> dict[str, Any] | None:
        """Attributes of the CloudEvent; None for a plain request."""
        if self._structured:
            body = self._parsed(self.data)
            if not isinstance(body, dict) or "specversion" not in body:
                raise werkzeug.exceptions.BadRequest("not a CloudEvent")
            return {k: v for k, v in body.items() if k not in ("data", "data_base64")}
        if "ce-specversion" in self.headers:
            return dict(self._identity.event)
        return None

    @cached_property
    def json(self) -> Any:
        """The body, or the event's data, parsed as JSON; None if it is empty. It is the same object
        each time, so the function's changes to it are kept.
        """
        if self._structured:
            self._parsed(self.data)
            try:
                data = from_http(dict(self.headers), self.data).data
            except (GenericException, ValueError) as error:
                raise werkzeug.exceptions.BadRequest(f"not a CloudEvent: {error}") from error
            return self._parsed(data) if isinstance(data, bytes) else data
        return self._parsed(self.data)

    @property
    def _structured(self) -> bool:
        return (self.request.mimetype or "").startswith(_STRUCTURED)

    @staticmethod
    def _parsed(data: bytes) -> Any:
        if not data.strip():
            return None
        try:
            return parsed(data)
        except ValueError as error:
            raise werkzeug.exceptions.BadRequest(f"not JSON: {error}") from error
