"""An API that says what reached it."""

import flask

SEEN = []


def handler(request: flask.Request):
    if request.method == "GET":
        return SEEN
    body = request.get_json()
    if "refuse" in body:
        return {"refused": body["refuse"]}, 409
    SEEN.append({"body": body, "headers": {k.lower(): v for k, v in request.headers.items()}})
    return {"made": body}
