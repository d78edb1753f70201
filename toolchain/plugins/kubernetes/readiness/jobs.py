"""Jobs: until they are complete or failed."""

from __future__ import annotations

from collections.abc import Sequence

from toolchain.plugins.kubernetes.failure import Findings, condition
from toolchain.plugins.kubernetes.readiness.rule import Object, Rule, pods_of, waiting_for
from toolchain.plugins.kubernetes.wait import DONE, Objects, Verdict, failed

_SECONDS = 600.0
_LOG_LINES = 20


def _job(thing: Object, others: Sequence[Objects]) -> Verdict:
    status = thing.get("status") or {}
    if condition(thing, "Complete").get("status") == "True" or thing["spec"].get("suspend"):
        return DONE
    over = condition(thing, "Failed")
    if over.get("status") == "True":
        return failed(f"the job failed: {over.get('reason')}: {over.get('message')}")
    wanted = thing["spec"].get("completions") or thing["spec"].get("parallelism", 1)
    return waiting_for(f"{status.get('succeeded') or 0} of {wanted} completions", others)


def _reasons(findings: Findings, thing: Object, others: Sequence[Objects]) -> list[str]:
    pods = [pod for view in others for pod in view.values()]
    failures = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Failed"]
    # Each failed pod has the same to say; the last one says it.
    newest = sorted(failures, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))[-1:]
    return findings.pods(newest or pods, _LOG_LINES) or findings.events(thing)


JOB = Rule(_job, _SECONDS, pods_of, _reasons)
