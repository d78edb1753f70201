"""Volumes and claims."""

from __future__ import annotations

from collections.abc import Sequence

from toolchain.plugins.kubernetes import kinds
from toolchain.plugins.kubernetes.client import ApiError, Client
from toolchain.plugins.kubernetes.readiness.rule import Object, Rule
from toolchain.plugins.kubernetes.wait import DONE, Objects, Verdict, failed, pending

_SECONDS = 300.0
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def _claim(thing: Object, others: Sequence[Objects]) -> Verdict:  # noqa: ARG001
    phase = (thing.get("status") or {}).get("phase")
    if phase == "Bound":
        return DONE
    return failed("its volume is lost") if phase == "Lost" else pending("no volume is bound")


def _binds_at_once(client: Client, thing: Object) -> bool:
    """A class that waits for the first consumer binds nothing while we wait for the claim."""
    classes = kinds.get("storage.k8s.io/v1", "StorageClass")
    name = thing["spec"].get("storageClassName")
    if name == "":
        return True
    if name is None:
        found = client.request("GET", classes.collection(None))["items"]
        default = [
            one
            for one in found
            if (one["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
        ]
        return all(one.get("volumeBindingMode") != "WaitForFirstConsumer" for one in default)
    try:
        chosen = client.request("GET", classes.path(None, name))
    except ApiError as error:
        if error.not_found:
            return True
        raise
    return bool(chosen.get("volumeBindingMode") != "WaitForFirstConsumer")


def _volume(thing: Object, others: Sequence[Objects]) -> Verdict:  # noqa: ARG001
    status = thing.get("status") or {}
    if status.get("phase") in {"Available", "Bound"}:
        return DONE
    if status.get("phase") == "Failed":
        return failed(f"the volume failed: {status.get('message')}")
    return pending(f"the volume is {status.get('phase', 'Pending')}")


CLAIM = Rule(_claim, _SECONDS, applies=_binds_at_once)
VOLUME = Rule(_volume, _SECONDS)
