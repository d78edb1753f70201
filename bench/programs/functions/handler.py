"""The handler that is measured: the same code in every runtime."""

from typing import Any


def handler(request: Any) -> dict[str, Any]:
    order: dict[str, Any] = request.get_json()
    if order.get("color") is None:
        order["color"] = "blue"
    return order


def book(context: Any) -> dict[str, Any]:
    order: dict[str, Any] = context.json
    if order.get("color") is None:
        order["color"] = "blue"
    return order
