"""What a kind of object says about its readiness."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toolchain.plugins.kubernetes import kinds
from toolchain.plugins.kubernetes.failure import Findings, summary, unready
from toolchain.plugins.kubernetes.wait import Objects, Source, Verdict, pending

if TYPE_CHECKING:
    from toolchain.plugins.kubernetes.client import Client

Object = Mapping[str, Any]


def _no_sources(thing: Object) -> Sequence[Source]:  # noqa: ARG001
    return ()


def _no_reasons(findings: Findings, thing: Object, others: Sequence[Objects]) -> list[str]:  # noqa: ARG001
    return findings.events(thing)


def _always(client: Client, thing: Object) -> bool:  # noqa: ARG001
    return True


@dataclasses.dataclass(frozen=True)
class Rule:
    """How to wait for one kind.

    :param judge: looks at the object and at the objects of ``sources``
    :param seconds: the bound unless the program sets another
    :param sources: what else to follow
    :param reasons: why it is not ready, most important first
    :param applies: whether this object is waited for at all
    """

    judge: Callable[[Object, Sequence[Objects]], Verdict]
    seconds: float
    sources: Callable[[Object], Sequence[Source]] = _no_sources
    reasons: Callable[[Findings, Object, Sequence[Objects]], list[str]] = _no_reasons
    applies: Callable[[Client, Object], bool] = _always


def is_observed(thing: Object) -> bool:
    """Whether the controller has seen the object's last change."""
    seen = (thing.get("status") or {}).get("observedGeneration") or 0
    return bool(seen >= (thing["metadata"].get("generation") or 0))


def pods_of(thing: Object) -> Sequence[Source]:
    """The pods that a workload selects by labels."""
    labels = ((thing["spec"].get("selector") or {}).get("matchLabels")) or {}
    if not labels:
        return ()
    pods = kinds.get("v1", "Pod").collection(thing["metadata"]["namespace"])
    return (Source.labelled(pods, labels),)


def waiting_for(count: str, others: Sequence[Objects]) -> Verdict:
    """Pending, with the pod that is most worth a look."""
    pods = unready(pod for view in others for pod in view.values())
    return pending(f"{count}; {summary(pods[0])}" if pods else count)


def pod_reasons(findings: Findings, thing: Object, others: Sequence[Objects]) -> list[str]:
    """Why a workload's pods are not ready; without pods, why there are none."""
    pods = [pod for view in others for pod in view.values()]
    return findings.pods(pods) or findings.events(thing)
