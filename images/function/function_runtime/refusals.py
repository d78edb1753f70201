"""Werkzeug's errors as JSON, like all other errors of the runtime."""

import json

import flask
import werkzeug.exceptions


def as_json(error: werkzeug.exceptions.HTTPException) -> flask.typing.ResponseReturnValue:
    """The response to an error; it keeps its status and headers (Location, Retry-After)."""
    response = error.get_response()
    if error.response is None:
        response.data = json.dumps({"error": error.description}) + "\n"
        response.content_type = "application/json"
    return response
