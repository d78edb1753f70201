"""Namespaces and what extends the API."""

from __future__ import annotations

from collections.abc import Sequence

from toolchain.plugins.kubernetes.failure import condition
from toolchain.plugins.kubernetes.readiness.rule import Object, Rule
from toolchain.plugins.kubernetes.wait import DONE, Objects, Verdict, failed, pending

_SECONDS = 120.0


def _namespace(thing: Object, others: Sequence[Objects]) -> Verdict:  # noqa: ARG001
    phase = (thing.get("status") or {}).get("phase")
    return DONE if phase == "Active" else pending(f"the namespace is {phase}")


def _definition(thing: Object, others: Sequence[Objects]) -> Verdict:  # noqa: ARG001
    names = condition(thing, "NamesAccepted")
    if names.get("status") == "False":
        return failed(f"its names are refused: {names.get('message')}")
    if condition(thing, "Established").get("status") == "True":
        return DONE
    return pending("the API server does not serve it yet")


def _api_service(thing: Object, others: Sequence[Objects]) -> Verdict:  # noqa: ARG001
    available = condition(thing, "Available")
    if available.get("status") == "True":
        return DONE
    return pending(str(available.get("message") or "the API server has not reached it yet"))


NAMESPACE = Rule(_namespace, _SECONDS)
DEFINITION = Rule(_definition, _SECONDS)
API_SERVICE = Rule(_api_service, 600.0)
