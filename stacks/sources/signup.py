"""The steps of the signup pipeline, as the book has them.

``create_user`` called the handlers that follow it, the required ones always and the optional ones
if the user asked for them. Here that is said by the pipeline's flow, so that one which fails is
tried again by itself and keeps no other from going on.
"""

from typing import Any

# What a real service would keep elsewhere. A pod forgets it, and an event that comes again with a
# key that is known here has its effect once only.
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
