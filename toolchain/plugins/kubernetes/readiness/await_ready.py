"""Waits for one object by its rule, and says why when it does not get ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toolchain.plugins.kubernetes import annotation
from toolchain.plugins.kubernetes.client import ApiError, Client, UnreachableError
from toolchain.plugins.kubernetes.failure import Findings
from toolchain.plugins.kubernetes.readiness.rules import rule_for
from toolchain.plugins.kubernetes.wait import (
    Objects,
    Phase,
    Source,
    Verdict,
    WaitError,
    WaitTimeoutError,
    failed,
    wait,
)
from toolchain.plugins.provider.errors import CancelledError, ProviderError

if TYPE_CHECKING:
    from toolchain.plugins.kubernetes.objects import Target
    from toolchain.plugins.kubernetes.readiness.rule import Rule
    from toolchain.plugins.provider.cancellation import Cancellation


class NotReadyError(ProviderError):
    """The object exists but is not ready.

    :param live: the object as last seen
    """

    def __init__(self, where: str, live: Mapping[str, Any], reasons: Sequence[str]) -> None:
        self.live = live
        super().__init__(told(where, reasons))


def told(where: str, reasons: Sequence[str]) -> str:
    """Reasons as one message, each line once."""
    first = reasons[0]
    more = [f"  {line}" for line in reasons[1:] if line.strip() not in first]
    return "\n".join((f"{where}: {first}", *more))


def await_ready(
    client: Client,
    target: Target,
    live: Mapping[str, Any],
    *,
    asked_seconds: float,
    cancellation: Cancellation,
    progress: Callable[[str], None],
) -> Mapping[str, Any]:
    """Waits until the object is ready and gives it as it is then.

    Args:
        client: Where it is.
        target: Its address.
        live: The object as the server has just given it.
        asked_seconds: The bound from ``customTimeouts``; 0: the annotation's or the kind's.
        cancellation: Ends the wait.
        progress: Told what is waited for.

    Raises:
        NotReadyError: It failed, the bound passed or the user cancelled.
    """
    seen: list[Objects] = []
    rule = None
    try:
        rule = rule_for(target.kind.group_kind, live)
        if rule is None or not rule.applies(client, live):
            return live
        sources = rule.sources(live)
        if not sources and rule.judge(live, ()).phase is Phase.DONE:
            return live
        views = wait(
            client,
            [Source.one(target.collection, target.name), *sources],
            _judge(rule, target.name, seen),
            seconds=annotation.seconds(live, asked_seconds, rule.seconds),
            cancellation=cancellation,
            progress=progress,
        )
        return views[0][target.name]
    except CancelledError as error:
        last = seen[0].get(target.name, live) if seen else live
        raise NotReadyError(target.where, last, ["cancelled before it was ready"]) from error
    except (WaitError, ApiError, UnreachableError, ProviderError) as error:
        last = seen[0].get(target.name, live) if seen else live
        reasons = [f"not ready {error}" if isinstance(error, WaitTimeoutError) else str(error)]
        if rule is not None and isinstance(error, WaitError):
            findings = Findings(client, target.namespace)
            reasons.extend(rule.reasons(findings, last, seen[1:]))
        raise NotReadyError(target.where, last, reasons) from error


def _judge(rule: Rule, name: str, seen: list[Objects]) -> Callable[[Sequence[Objects]], Verdict]:
    def judge(views: Sequence[Objects]) -> Verdict:
        thing = views[0].get(name)
        if thing is None:
            return failed("somebody deleted it")
        seen[:] = views
        return rule.judge(thing, views[1:])

    return judge


def look(client: Client, target: Target, live: Mapping[str, Any]) -> str | None:
    """Looks once, without waiting: why an object is not ready; None if it is."""
    rule = rule_for(target.kind.group_kind, live)
    if rule is None or not rule.applies(client, live):
        return None
    others = [_listed(client, source) for source in rule.sources(live)]
    verdict = rule.judge(live, others)
    if verdict.phase is Phase.DONE:
        return None
    findings = Findings(client, target.namespace)
    reasons = [f"not ready: {verdict.message}", *rule.reasons(findings, live, others)]
    return told(target.where, reasons)


def _listed(client: Client, source: Source) -> Objects:
    answer = client.request("GET", source.path, query=source.query)
    return {item["metadata"]["name"]: item for item in answer.get("items") or ()}
