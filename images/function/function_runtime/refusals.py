"""Werkzeug's errors as JSON, as all other answers of the runtime are."""

import json

import flask
import werkzeug.exceptions


def as_json(error: werkzeug.exceptions.HTTPException) -> flask.typing.ResponseReturnValue:
    """The answer to an error; status and headers (Location, Retry-After) stay the error's own."""
    response = error.get_response()
    if error.response is None:
        response.data = json.dumps({"error": error.description}) + "\n"
        response.content_type = "application/json"
    return response
