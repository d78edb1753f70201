"""An API that says what reached it."""

import flask

SEEN = []


def handler(request: flask.Request):
    if request.method == "GET":
        return SEEN
    body = request.get_json()
    if "refuse" in body:
        return {"refused": body["refuse"]}, 409
    target = request.environ["RAW_URI"]
    headers = {k.lower(): v for k, v in request.headers.items()}
    SEEN.append({"body": body, "headers": headers, "target": target})
    if "create" in body:
        return {"made": body}, 201, {"Location": "/made/1", "Set-Cookie": "a=1"}
    return {"made": body}
