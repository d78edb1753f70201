"""The cost of an election: time without a leader, the lock itself, and the capacity of one etcd."""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.figures import Figure, Ratio
from bench.ground import Ground, ground
from tests.live.support.election import (
    IMAGES,
    Attempt,
    Contest,
    Elections,
    Fault,
    elections,
    side_by_side,
    terms,
)
from tests.live.support.kube import InPod, Pod
from tests.live.support.nodes import Nodes
from tests.live.support.waiting import eventually

TTL = 5
LOCKS = 100
CRASH_GOAL, HANDOVER_GOAL, LOCK_GOAL = 1.2, 0.04, 4.0
GAP = 0.15
SECONDS_OF_RENEWALS = 10


def measure(quick: bool) -> Figure:
    """Elections on one etcd and on a Lease, and a singleton; ``quick`` injects each fault once."""
    side = 2 if quick else 5
    kills, terminations, rolls = (1, 1, 1) if quick else (10, 5, 4)
    names = [f"etcd-{number}" for number in range(side)]
    wanted = [_wanted(name, "etcd") for name in names]
    wanted += [_wanted("lease", "lease"), {**_wanted("unfenced", "etcd"), "fenced": False}]
    with ground() as here:
        nodes = Nodes(here.cluster)
        try:
            with elections(
                here.cluster, here.kube, nodes, here.images(*IMAGES), here.folder / "election",
                wanted, singleton=True, client=True,
            ) as deployed:  # fmt: skip
                found = _measured(here, deployed, names, kills, terminations, rolls)
        finally:
            nodes.close()
    return _figure(found, quick)


def _wanted(name: str, backend: str) -> dict[str, Any]:
    return {
        "name": name, "backend": backend, "ttl": TTL, "replicas": 2, "gap": GAP, "fenced": True,
    }  # fmt: skip


def _measured(
    here: Ground,
    deployed: Elections,
    names: Sequence[str],
    kills: int,
    terminations: int,
    rolls: int,
) -> dict[str, Any]:
    contests = deployed.contests()

    def all_of(*wanted: str) -> list[Contest]:
        return [contests[name] for name in wanted]

    # Measurements run one after the other; only the same fault in several elections runs in parallel.
    client = InPod(here.kube, _pod(deployed, "client"), "client")
    access = deployed.stack.outputs()["access"]
    locks = client.ask("locks", module="bench.in_pod.locks", rounds=40 * kills, **access)
    renewals = client.ask(
        "renewals", module="bench.in_pod.locks", locks=LOCKS, processes=4, threads=8,
        seconds=SECONDS_OF_RENEWALS, **access,
    )  # fmt: skip
    single = _singleton(deployed, rolls)
    lines = {
        "fenced": _pause(contests[names[0]]),
        "unfenced": _pause(contests["unfenced"]),
    }
    # A handover takes less time than the start of a pod, so no other pods start meanwhile.
    for contest in all_of(*names, "lease"):
        _repeat([contest], Contest.terminate, terminations)
    _repeat(all_of(*names, "lease"), Contest.kill, kills)
    on_etcd, on_lease = all_of(*names), all_of("lease")
    return {
        "ttl_seconds": TTL,
        "crash_seconds": _away(on_etcd, "killed"),
        "handover_seconds": _away(on_etcd, "terminated"),
        "lease_crash_seconds": _away(on_lease, "killed"),
        "lease_handover_seconds": _away(on_lease, "terminated"),
        "singleton_seconds": single,
        "put_seconds": locks["put"],
        "lock_seconds": locks["lock"],
        "renewals": renewals,
        "pause": lines,
    }


def _repeat(contests: Sequence[Contest], fault: Callable[[Contest], Fault], times: int) -> None:
    def repeated(contest: Contest) -> None:
        done = len(contest.faults)
        while len(contest.faults) < done + times:
            fault(contest)

    side_by_side(*(lambda c=c: repeated(c) for c in contests))


def _away(contests: Sequence[Contest], kind: str) -> list[float]:
    return sorted(f.away for contest in contests for f in contest.faults if f.kind == kind)


def _pod(deployed: Elections, name: str) -> Pod:
    def condition() -> list[Pod]:
        pods = deployed.kube.pods(deployed.namespace, {"app.kubernetes.io/instance": name})
        return pods if len(pods) == 1 and pods[0].ready else []

    return eventually(condition, 120, f"one pod of {name}")[0]


def _singleton(deployed: Elections, times: int) -> dict[str, list[float]]:
    """Seconds between the last count of one pod and the first of the next, by fault."""
    kube, namespace = deployed.kube, deployed.namespace

    def rollout(pod: Pod) -> None:
        mark = {"metadata": {"annotations": {"mark": pod.uid}}}
        kube.apps.patch_namespaced_stateful_set("single", namespace, {"spec": {"template": mark}})

    faults: Mapping[str, Callable[[Pod], None]] = {
        "rollout": rollout,
        "pod deleted": kube.delete_pod,
        "crash": lambda pod: deployed.nodes.kill(pod, "single"),
    }
    gaps: dict[str, list[float]] = {name: [] for name in faults}
    for _ in range(times):
        # The crash comes last: the kubelet delays the restart after a second crash in one pod.
        for name, inject in faults.items():
            pod = _pod(deployed, "single")
            before = time.monotonic()
            inject(pod)
            gaps[name].append(_gap(deployed, before))
        kube.delete_pod(_pod(deployed, "single"))
        _gap(deployed, time.monotonic())
    return gaps


def _gap(deployed: Elections, since: float) -> float:
    def condition() -> list[float]:
        attempts = deployed.witnesses[False].attempts("single")
        old = [a for a in attempts if a.at <= since][-1].holder
        new = [a for a in attempts if a.at > since and a.holder != old]
        last = max(a.at for a in attempts if a.holder == old and a.action != "release")
        return [new[0].at - last] if new else []

    return eventually(condition, 120, "the singleton counts again", interval=0.1)[0]


def _pause(contest: Contest) -> dict[str, Any]:
    """One pause, with the writes that reached the store from shortly before until shortly after."""
    for _ in range(8):
        began = time.monotonic()
        fault = contest.pause()
        until = time.monotonic() + 1
        contest.counting(until)
        seen = [a for a in contest.attempts() if began - 2 < a.at < until]
        # Only a pause between the check of leadership and the write makes fencing visible.
        if any(a.token < a.highest and a.action == "increment" for a in seen):
            break
    first = seen[0].at
    holders = list(dict.fromkeys(a.holder for a in seen))
    return {
        "paused_from": fault.stopped - first,
        "leads_again_from": fault.led - first,
        "writes": [_write(a, first, holders) for a in seen if a.action != "release"],
        "beliefs": [
            {
                "holder": holders.index(t.holder),
                "since": max(t.since - first, 0.0),
                "until": min(t.until, until) - first,
            }
            for t in terms(seen)
        ],
    }


def _write(attempt: Attempt, first: float, holders: Sequence[str]) -> dict[str, Any]:
    return {
        "second": attempt.at - first,
        "holder": holders.index(attempt.holder),
        "action": attempt.action,
        "token": attempt.token,
        "accepted": attempt.accepted,
        "value": attempt.value,
    }


def _percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _ratio(
    name: str, values: Sequence[float], by: float, goal: float | None = None, share: float = 0.5
) -> Ratio:
    ratios = [value / by for value in values]
    return Ratio(name, _percentile(ratios, share), min(ratios), max(ratios), len(ratios), goal)


def _figure(found: dict[str, Any], quick: bool) -> Figure:
    single = found["singleton_seconds"]
    renewals = found["renewals"]
    carried = renewals["renewals"] / renewals["seconds"]
    ratios = [
        _ratio("crash, p99: time without a leader / TTL", found["crash_seconds"], TTL,
               CRASH_GOAL, 0.99),
        _ratio("crash, median", found["crash_seconds"], TTL),
        _ratio("graceful handover / TTL", found["handover_seconds"], TTL, HANDOVER_GOAL),
        _ratio("crash with a Lease, median", found["lease_crash_seconds"], TTL),
        _ratio("graceful handover with a Lease", found["lease_handover_seconds"], TTL),
        *(_ratio(f"singleton, {name} / TTL", single[name], TTL) for name in single),
        Ratio.of("acquire and release / one put of etcd",
                 [(statistics.median(found["lock_seconds"]),
                   statistics.median(found["put_seconds"]))], LOCK_GOAL),
        Ratio.of(f"renewals that etcd carries / those of {LOCKS} elections",
                 [(carried, LOCKS * 3 / TTL)]),
    ]  # fmt: skip
    return Figure(
        name="election",
        question="Time without a leader, in units of the time to live, and the cost of the lock",
        command="python -m bench --only election" + (" --quick" if quick else ""),
        method=(
            f"Elections with a TTL of {TTL} s and two candidates each, side by side on one etcd of "
            "three members, and one on a Lease. Time without a leader: from the last sign of life "
            "of the old leader that reached the store of the counter to the first of the next. "
            "Crash: SIGKILL for application and elector. Handover: the pod is deleted, in one "
            "election after the other. Singleton: the same application, in one pod; its crash is of "
            "the container, which is restarted where it is. Lock: acquire and release and one put in turn, one client. Renewals: "
            f"{LOCKS} held locks, 32 clients in a pod for {SECONDS_OF_RENEWALS} s, as fast as they are "
            "answered; what is compared with is a renewal each third of the TTL. Everything shares "
            "the processors."
        ),
        ratios=ratios,
        measurements={**json.loads(json.dumps(found)), "renewals_per_second": carried},
    )
