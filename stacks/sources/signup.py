"""The steps of the signup pipeline, as the book has them.

In the book ``create_user`` calls the handlers that follow it, the required ones always and the
optional ones if the user wants them. Here the pipeline's flow declares that, so that a failed step is
retried alone and does not block the others.
"""

from typing import Any

# A real service would persist these. With them the steps are idempotent: an event that is delivered
# again with a known key has its effect once.
_done: dict[str, dict[str, Any]] = {}


def create_user(context: Any) -> dict[str, Any]:
    """Make an account; its number goes on to the steps that follow."""
    user = context.json["username"]
    return _once(context, {"account": f"account-of-{user}"})


def email_user(context: Any) -> dict[str, Any]:
    """Say hello."""
    user, address = context.json["username"], context.json["email"]
    message = f"Hello {user} thanks for joining my awesome service!"
    return _once(context, {"mailed": {"to": address, "characters": len(message)}})


def subscribe_user(context: Any) -> dict[str, Any]:
    """Put the address on the list of those who want news."""
    return _once(context, {"subscribed": context.json["email"]})


def _once(context: Any, effect: dict[str, Any]) -> dict[str, Any]:
    return _done.setdefault(context.headers["Idempotency-Key"], effect)
