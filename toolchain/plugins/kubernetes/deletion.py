"""Deletion: how it spreads to dependants, and when it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from toolchain.plugins.kubernetes import annotation
from toolchain.plugins.kubernetes.wait import (
    DONE,
    Objects,
    Source,
    Verdict,
    WaitTimeoutError,
    pending,
    wait,
)
from toolchain.plugins.provider.errors import CancelledError, ProviderError

if TYPE_CHECKING:
    from toolchain.plugins.kubernetes.objects import Server, Target
    from toolchain.plugins.provider.cancellation import Cancellation

SECONDS: Final = 600.0
_OWNERS = frozenset(
    {
        "apps/DaemonSet",
        "apps/Deployment",
        "apps/ReplicaSet",
        "apps/StatefulSet",
        "batch/CronJob",
        "batch/Job",
    }
)
_POLICIES: Final[Mapping[str, str]] = {
    name.lower(): name for name in ("Foreground", "Background", "Orphan")
}


def propagation(group_kind: str, inputs: Mapping[str, Any]) -> str:
    """What happens to what the object owns; by default that it goes first.

    Raises:
        ProviderError: The annotation names no policy.
    """
    text = annotation.value(inputs, annotation.DELETION_PROPAGATION)
    if text is None:
        return "Foreground" if group_kind in _OWNERS else "Background"
    if text.lower() not in _POLICIES:
        raise ProviderError(
            f"annotation {annotation.DELETION_PROPAGATION} is {text!r}; "
            f"one of {', '.join(_POLICIES.values())}"
        )
    return _POLICIES[text.lower()]


def delete(
    server: Server,
    target: Target,
    inputs: Mapping[str, Any],
    *,
    asked_seconds: float,
    cancellation: Cancellation,
    progress: Callable[[str], None],
) -> None:
    """Deletes an object and waits until it is gone.

    Args:
        server: Where it is.
        target: Its address.
        inputs: Its inputs, for its annotations.
        asked_seconds: The bound from ``customTimeouts``; 0: none.
        cancellation: Ends the wait.
        progress: Told what is waited for.

    Raises:
        ProviderError: It was refused or is not gone within the bound.
    """
    cancellation.check()
    live = server.delete(target, propagation(target.kind.group_kind, inputs))
    if live is None or annotation.is_true(inputs, annotation.SKIP_AWAIT):
        return
    seconds = annotation.seconds(inputs, asked_seconds, SECONDS)
    wait_until_gone(
        server, target, live, seconds=seconds, cancellation=cancellation, progress=progress
    )


def wait_until_gone(
    server: Server,
    target: Target,
    live: Mapping[str, Any],
    *,
    seconds: float,
    cancellation: Cancellation,
    progress: Callable[[str], None],
) -> None:
    """Waits until this very object, not one of the same name, is gone.

    Raises:
        ProviderError: It is not gone within the bound; says what holds it.
    """
    uid = live["metadata"].get("uid")

    def judge(views: Sequence[Objects]) -> Verdict:
        found = views[0].get(target.name)
        if found is None or found["metadata"].get("uid") != uid:
            return DONE
        return pending(_holding(found))

    try:
        wait(
            server.client,
            [Source.one(target.collection, target.name)],
            judge,
            seconds=seconds,
            cancellation=cancellation,
            progress=progress,
        )
    except WaitTimeoutError as error:
        raise ProviderError(f"{target.where}: not gone {error}") from error
    except CancelledError as error:
        raise ProviderError(f"{target.where}: cancelled while waiting for its deletion") from error


def _holding(thing: Mapping[str, Any]) -> str:
    conditions = (thing.get("status") or {}).get("conditions") or ()
    told = [
        str(item.get("message"))
        for item in conditions
        if str(item.get("type")).startswith("Namespace") and item.get("status") == "True"
    ]
    finalizers = [
        *(thing["metadata"].get("finalizers") or ()),
        *((thing.get("spec") or {}).get("finalizers") or ()),
    ]
    if "foregroundDeletion" in finalizers:
        told.append("what it owns goes first")
    if finalizers:
        told.append(f"finalizers {', '.join(finalizers)}")
    return "; ".join(told) or "it is ending"
