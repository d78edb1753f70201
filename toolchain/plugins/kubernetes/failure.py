"""Says why pods are not ready: the pod, the container, the reason, its last words and events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from toolchain.plugins.kubernetes import kinds
from toolchain.plugins.kubernetes.client import ApiError, Client, UnreachableError

_PODS = 3
_EVENTS = 4
LOG_LINES = 10
_PATIENCE = 2.0
_IN_PROGRESS = frozenset({"ContainerCreating", "PodInitializing"})


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod serves."""
    return condition(pod, "Ready").get("status") == "True"


def condition(thing: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """One of an object's conditions; empty if it has none of the kind."""
    for item in (thing.get("status") or {}).get("conditions") or ():
        if item.get("type") == kind:
            found: Mapping[str, Any] = item
            return found
    return {}


def summary(pod: Mapping[str, Any]) -> str:
    """One line on why a pod is not ready, for example ``pod x: container y: ImagePullBackOff``."""
    name = pod["metadata"]["name"]
    status = pod.get("status") or {}
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        why = scheduled.get("message") or ""
        return f"pod {name}: {scheduled.get('reason', 'Unschedulable')}: {why}".rstrip(": ")
    for state in _states(status):
        told = _container(state)
        if told:
            return f"pod {name}: container {state['name']}: {told}"
    if status.get("phase") == "Failed":
        why = ": ".join(filter(None, (status.get("reason"), status.get("message"))))
        return f"pod {name}: failed{': ' if why else ''}{why}"
    for state in _states(status):
        if not state.get("ready") and "running" in (state.get("state") or {}):
            return f"pod {name}: container {state['name']}: running, not ready"
    return f"pod {name}: {status.get('phase', 'Pending')}"


def _states(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]


def _container(state: Mapping[str, Any]) -> str | None:
    now = state.get("state") or {}
    ended = now.get("terminated") or (state.get("lastState") or {}).get("terminated") or {}
    code = f"exit code {ended['exitCode']}" if ended.get("exitCode") else ""
    if ended.get("signal"):
        code = f"signal {ended['signal']}"
    if code and ended.get("reason") not in {None, "Error"}:
        code = f"{ended['reason']}, {code}"
    waiting = now.get("waiting")
    if waiting:
        reason = waiting.get("reason", "waiting")
        parts = [f"{reason} ({code})" if code else reason, waiting.get("message")]
        return ": ".join(filter(None, parts))
    if "terminated" in now and code:
        return ": ".join(filter(None, (code, ended.get("message"))))
    if code and not state.get("ready"):
        return f"{code}, started {state.get('restartCount', 0)} times again"
    return None


def unready(pods: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Pods that are neither ready nor done, those that tell most first."""
    waiting = [
        pod
        for pod in pods
        if not is_ready(pod)
        and (pod.get("status") or {}).get("phase") != "Succeeded"
        and not pod["metadata"].get("deletionTimestamp")
    ]
    return sorted(waiting, key=lambda pod: (not _tells(pod), pod["metadata"]["name"]))


def _tells(pod: Mapping[str, Any]) -> bool:
    text = summary(pod)
    return not any(reason in text for reason in _IN_PROGRESS) and not text.endswith("Pending")


class Findings:
    """Looks at a cluster for why something is not ready. What cannot be had is left out."""

    def __init__(self, client: Client, namespace: str | None) -> None:
        self._client = client
        self._namespace = namespace

    def pods(self, pods: Iterable[Mapping[str, Any]], log_lines: int = LOG_LINES) -> list[str]:
        """Reasons of the pods that are not ready, at most three of them."""
        lines = []
        for pod in unready(pods)[:_PODS]:
            lines.append(summary(pod))
            lines.extend(f"  {line}" for line in self._last_words(pod, log_lines))
            lines.extend(f"  {line}" for line in self.events(pod))
        return lines

    def events(self, thing: Mapping[str, Any]) -> list[str]:
        """The last warnings about an object, newest last."""
        uid = thing["metadata"].get("uid")
        if not uid:
            return []
        answer = self._get(
            kinds.get("v1", "Event").collection(thing["metadata"].get("namespace") or "default"),
            {"fieldSelector": f"involvedObject.uid={uid},type!=Normal"},
        )
        found = sorted((answer or {}).get("items") or (), key=_when)
        return [f"event {_event(item)}" for item in found[-_EVENTS:]]

    def labelled(
        self, api_version: str, kind: str, labels: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """Objects of the namespace that carry these labels."""
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        path = kinds.get(api_version, kind).collection(self._namespace)
        answer = self._get(path, {"labelSelector": selector})
        return [*((answer or {}).get("items") or ())]

    def _last_words(self, pod: Mapping[str, Any], lines: int) -> list[str]:
        for state in _states(pod.get("status") or {}):
            now = state.get("state") or {}
            crashed = bool((now.get("terminated") or {}).get("exitCode"))
            crashed_before = bool((state.get("lastState") or {}).get("terminated"))
            if not crashed and (not crashed_before or state.get("ready")):
                continue
            query = {"container": state["name"], "tailLines": str(lines)}
            if not crashed:
                query["previous"] = "true"
            path = kinds.get("v1", "Pod").path(self._namespace, pod["metadata"]["name"])
            text = self._get(f"{path}/log", query, text=True)
            if text and text.strip():
                said = text.rstrip().splitlines()
                return [f"last log lines of {state['name']}:", *(f"  {line}" for line in said)]
        return []

    def _get(self, path: str, query: Mapping[str, str], *, text: bool = False) -> Any:
        try:
            return self._client.request("GET", path, query=query, patience=_PATIENCE, text=text)
        except (ApiError, UnreachableError):
            return None


def _when(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def _event(event: Mapping[str, Any]) -> str:
    times = (event.get("series") or {}).get("count") or event.get("count") or 1
    again = f" ({times} times)" if times > 1 else ""
    return f"{event.get('reason')}: {' '.join(str(event.get('message')).split())}{again}"
