"""A small API that is unaware of the decorator in front of it."""

import flask


def handler(request: flask.Request) -> tuple[dict[str, object], int]:
    """Paint what is asked for; without a name and a colour there is nothing to paint."""
    order = request.get_json()
    missing = [field for field in ("name", "color") if not order.get(field)]
    if missing:
        return {"error": f"missing: {', '.join(missing)}"}, 422
    return {"painted": order, "request_id": request.headers["X-Request-Id"]}, 200
