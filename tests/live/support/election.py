"""Elections under faults: what is done to the leaders, and what the stores recorded meanwhile.

The stores' logs are the evidence: every write carries from when until when its holder considered
itself the leader, on CLOCK_MONOTONIC. All pods and this process run on one kernel, so these times
can be compared.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.live.support.cluster import Cluster
from tests.live.support.kube import Kube, Pod
from tests.live.support.nodes import Nodes
from tests.live.support.stacks import PROGRAMS, Stack, throwaway
from tests.live.support.waiting import eventually

IMAGES = ("etcd", "elector", "toolbox")
TICKER = "ticker"
PATIENCE = 240.0
"""Seconds until an expected event has failed; a very busy machine loses leaders by itself."""
# Prints the log of the store in its pod, and follows it.
FOLLOW = """
import json, sys, time, urllib.request
after = 0
while True:
    url = f"http://127.0.0.1:8080/log?after={after}&wait=20"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            found = json.load(answer)
    except OSError as error:
        # The store is slow on a busy machine. One that was restarted has lost its log.
        print(f"{time.ctime()}: {error!r}", file=sys.stderr, flush=True)
        time.sleep(1)
        continue
    if found["last"] < after or after and found["oldest"] > after + 1:
        sys.exit(f"lost after attempt {after}: the store has {found['oldest']} to {found['last']}")
    for entry in found["attempts"]:
        after = entry["number"]
        print(json.dumps(entry))
    print(end="", flush=True)
    time.sleep(0.1)
"""


@dataclass(frozen=True)
class Attempt:
    """A write that reached a store."""

    number: int
    at: float
    action: str
    holder: str
    token: int
    highest: int
    accepted: bool
    before: int
    value: int
    since: float
    until: float

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Attempt":
        kept = {key: entry[key] for key in cls.__dataclass_fields__ if key in entry}
        return cls(**kept, **entry["belief"])


class Witness:
    """A store's log, followed from here."""

    def __init__(self, kube: Kube, pod: Pod) -> None:
        self._kube = kube
        self._exec = kube.start(pod, "fenced-store", ["python3", "-c", FOLLOW])
        self._rest = ""
        self._attempts: dict[str, list[Attempt]] = {}
        self._mutex = threading.Lock()

    def attempts(self, counter: str) -> list[Attempt]:
        """All attempts on one counter until now, in order."""
        with self._mutex:
            *lines, self._rest = (self._rest + self._exec.taken()).split("\n")
            for line in lines:
                entry = json.loads(line)
                self._attempts.setdefault(entry["counter"], []).append(Attempt.of(entry))
            assert self._exec.running, f"the store's log has ended: {self._exec.errors}"
            return list(self._attempts.get(counter, ()))

    def stop(self) -> None:
        """Stop following."""
        self._exec.stop()


@dataclass(frozen=True)
class Term:
    """One holder's time with one token, as it saw it."""

    holder: str
    token: int
    since: float
    until: float


def terms(attempts: Sequence[Attempt]) -> list[Term]:
    """From when until when each holder considered itself the leader, in order.

    A holder that learned of its end earlier says so in its release. One that was killed could have
    considered itself the leader until the last end that it was given.
    """
    found: dict[tuple[str, int], list[Attempt]] = {}
    for attempt in attempts:
        found.setdefault((attempt.holder, attempt.token), []).append(attempt)
    result = []
    for (holder, token), mine in found.items():
        released = [a.until for a in mine if a.action == "release"]
        until = min(released) if released else max(a.until for a in mine)
        result.append(Term(holder, token, min(a.since for a in mine), until))
    return sorted(result, key=lambda term: term.since)


def two_at_once(attempts: Sequence[Attempt]) -> list[str]:
    """Every pair of terms that overlap; there should be none."""
    problems: list[str] = []
    latest: Term | None = None
    for term in terms(attempts):
        if latest is not None and term.since < latest.until:
            problems.append(f"{latest.until - term.since:.3f} s: {latest} and {term}")
        if latest is None or term.until > latest.until:
            latest = term
    return problems


def late(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Writes with a token older than one that the store had already seen."""
    return [a for a in attempts if a.token < a.highest and a.action != "release"]


def left_over(attempts: Sequence[Attempt], token: int) -> float:
    """Seconds of a term's time that were left when the next one began."""
    promised = max(a.until for a in attempts if a.token == token and a.action != "release")
    return promised - next(term.since for term in terms(attempts) if term.token > token)


def miscounted(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Writes after which the counter is not one higher than before."""
    return [
        a for a in attempts if a.accepted and a.action == "increment" and a.value != a.before + 1
    ]


@dataclass(frozen=True)
class Fault:
    """What was done to a leader, and when its successor counted."""

    kind: str
    ttl: float
    leader: str
    token: int
    began: float
    """CLOCK_MONOTONIC, before the fault."""
    stopped: float
    """When the old leader's lease ended, or its last write reached the store."""
    led: float
    """When the next leader's first write reached the store."""

    @property
    def away(self) -> float:
        """Seconds without a leader, from the old leader's last sign of life to the new one's
        first: what the fault cost, without the time that it took to bring it about."""
        return self.led - self.stopped


@dataclass
class Contest:
    """One election, and what can be done to it."""

    deployed: "Elections"
    name: str
    backend: str
    ttl: float
    fenced: bool
    faults: list[Fault] = field(default_factory=list)
    missed: list[Fault] = field(default_factory=list)
    """Faults that hit a pod that no longer led."""

    @property
    def elector(self) -> str:
        """Name of the elector's container."""
        return f"elector-{self.name}"

    @property
    def containers(self) -> tuple[str, str]:
        """The application and its elector."""
        return (TICKER, self.elector)

    def attempts(self) -> list[Attempt]:
        """The attempts that reached the store."""
        return self.deployed.witnesses[self.fenced].attempts(self.name)

    def pods(self) -> list[Pod]:
        """The election's pods."""
        return self.deployed.kube.pods(
            self.deployed.namespace, {"app.kubernetes.io/instance": self.name}
        )

    def leader(self) -> tuple[Pod, int]:
        """The pod that counts and its token, once there are one and a possible successor."""

        def condition() -> tuple[Pod, int] | None:
            now = time.monotonic()
            counted = [a for a in self.attempts()[-5:] if a.accepted and a.action == "increment"]
            if not counted or now - counted[-1].at > 2:
                return None
            pods = {pod.name: pod for pod in self.pods()}
            leader = pods.get(counted[-1].holder)
            # The leader need not be ready: a probe that is late on a busy machine changes nothing.
            # A successor must have reached the election's store, which its readiness tells.
            if leader is None or not set(self.containers) <= set(leader.containers):
                return None
            if not any(pod.ready for pod in pods.values() if pod is not leader):
                return None
            # Its status may still show containers that were killed before; then wait.
            self.deployed.nodes.pids(leader, self.containers)
            return leader, counted[-1].token

        found = eventually(
            condition, PATIENCE, lambda: f"{self.name} has a leader\n{self._stand()}"
        )
        assert found is not None
        return found

    def counting(self, since: float, timeout: float = PATIENCE) -> Attempt:
        """The first accepted count after a moment."""
        return self._first(lambda a: a.accepted and a.action == "increment" and a.at > since,
                           timeout, "counts")  # fmt: skip

    def succeeded(self, token: int, timeout: float) -> Attempt:
        """The first accepted write of a later term."""
        return self._first(
            lambda a: a.accepted and a.token > token, timeout, f"has a leader after token {token}"
        )

    def _first(self, wanted: Callable[[Attempt], bool], timeout: float, what: str) -> Attempt:
        def condition() -> Attempt | None:
            return next((a for a in self.attempts() if wanted(a)), None)

        found = eventually(condition, timeout, lambda: f"{self.name} {what}\n{self._stand()}", 0.05)
        assert found is not None
        return found

    def _stand(self) -> str:
        last = "\n".join(map(str, self.attempts()[-6:]))
        pods = "\n".join(f"  {p.name}: ready {p.ready}, {p.restarts}" for p in self.pods())
        return f"{pods}\n{last}"

    def _noted(self, kind: str, token: int, began: float) -> Fault:
        led = self.succeeded(token, PATIENCE)
        mine = [a for a in self.attempts() if a.token == token and a.at < led.at]
        ends = [a.until for a in mine if a.action == "release"]
        fault = Fault(
            kind=kind,
            ttl=self.ttl,
            leader=mine[-1].holder,
            token=token,
            began=began,
            stopped=ends[-1] if ends and ends[-1] > began else max(a.at for a in mine),
            led=led.at,
        )
        # On a busy machine leadership may have passed on before the fault came.
        led_then = max(a.until for a in mine) > began
        if kind == "cut off":
            # Nor did it continue to count if it was stalled for the whole lease.
            led_then = led_then and any(a.at > began for a in mine)
        (self.faults if led_then else self.missed).append(fault)
        return fault

    # faults

    def _leader_at(self, *containers: str) -> tuple[Pod, int, list[int]]:
        """The leader, its token, and the processes of its containers, all at one moment."""

        def condition() -> tuple[Pod, int, list[int]]:
            pod, token = self.leader()
            # A container restarted since has another id, which is looked up again.
            return pod, token, self.deployed.nodes.pids(pod, containers)

        return eventually(condition, PATIENCE, lambda: f"{self.name} stands still\n{self._stand()}")

    def kill(self) -> Fault:
        """SIGKILL for the leader and its elector."""
        pod, token, pids = self._leader_at(*self.containers)
        nodes = self.deployed.nodes
        began = time.monotonic()
        nodes.signal_all(pod.node, pids, "KILL")
        if any(pod.restarts.values()):
            # A container that is killed again is restarted later each time; a new pod is not.
            self.deployed.kube.delete_pod(pod, grace=0)
        return self._noted("killed", token, began)

    def terminate(self) -> Fault:
        """SIGTERM, as in a rollout or a drain."""
        pod, token = self.leader()
        began = time.monotonic()
        self.deployed.kube.delete_pod(pod)
        return self._noted("terminated", token, began)

    def pause(self) -> Fault:
        """SIGSTOP for the leader and its elector until another one counts, then SIGCONT."""
        pod, token, pids = self._leader_at(*self.containers)
        began = time.monotonic()
        with self.deployed.nodes.all_paused(pod.node, pids):
            fault = self._noted("paused", token, began)
            self.counting(fault.led)
            # Long enough that a late write would undo several counts.
            time.sleep(0.5)
        self.counting(time.monotonic() + 0.5)
        return fault

    def kill_elector(self) -> Fault:
        """SIGKILL for the elector alone: the application runs on."""
        pod, token, pids = self._leader_at(self.elector)
        nodes = self.deployed.nodes
        began = time.monotonic()
        nodes.signal_all(pod.node, pids, "KILL")
        return self._noted("elector killed", token, began)

    @contextmanager
    def cut_off(self, pod: Pod) -> Iterator[None]:
        """Drop the pod's packets to the election's store; the counters' store stays reachable."""
        nodes = self.deployed.nodes
        pid = nodes.pids(pod, [TICKER])[0]
        port = "2379" if self.backend == "etcd" else "443"
        rule = ["OUTPUT", "--protocol", "tcp", "--dport", port, "--jump", "DROP"]
        nodes.in_network(pod.node, pid, "iptables", "--insert", *rule)
        try:
            yield
        finally:
            nodes.in_network(pod.node, pid, "iptables", "--delete", *rule)

    def isolate(self) -> Fault:
        """Cut the leader off from the election's store until shortly after another one leads."""
        pod, token = self.leader()
        began = time.monotonic()
        with self.cut_off(pod):
            fault = self._noted("cut off", token, began)
            self.counting(fault.led + 0.5)
        self.counting(time.monotonic())
        return fault


@dataclass(frozen=True)
class Elections:
    """The program ``election``, deployed."""

    kube: Kube
    nodes: Nodes
    stack: Stack
    namespace: str
    witnesses: Mapping[bool, Witness]
    """The stores' logs, by whether the store fences."""
    wanted: Sequence[Mapping[str, Any]]

    def contests(self) -> dict[str, Contest]:
        """Every election by its name."""
        return {
            w["name"]: Contest(self, w["name"], w["backend"], w["ttl"], w["fenced"])
            for w in self.wanted
        }

    # the members of etcd

    def members(self) -> list[Pod]:
        """The pods of etcd's members."""
        return self.kube.pods(self.namespace, {"app.kubernetes.io/instance": "etcd"})

    def etcd_leader(self) -> Pod:
        """The member that leads the others."""

        def condition() -> Pod | None:
            for pod in self.members():
                if pod.ready and self._of_etcd(pod, "is_leader") == 1:
                    return pod
            return None

        found = eventually(condition, 60, "a member of etcd leads")
        assert found is not None
        return found

    def elected(self, besides: Pod) -> int:
        """How often the members other than this one have seen a leader elected."""
        others = [pod for pod in self.members() if pod.name != besides.name]
        return sum(self._of_etcd(pod, "leader_changes_seen_total") for pod in others)

    def _of_etcd(self, pod: Pod, metric: str) -> int:
        script = 'wget -qO- "$1" | grep "^etcd_server_$2 "'
        url = f"http://{pod.address}:2381/metrics"
        return int(self.nodes.run(pod.node, script, url, metric).split()[-1])

    @contextmanager
    def members_paused(self, pods: Sequence[Pod]) -> Iterator[None]:
        """SIGSTOP for members, SIGCONT at the end."""
        with ExitStack() as stack:
            for pod in pods:
                stack.enter_context(self.nodes.all_paused(pod.node, self.nodes.pids(pod, ["etcd"])))
            yield


@contextmanager
def elections(
    cluster: Cluster,
    kube: Kube,
    nodes: Nodes,
    images: Mapping[str, str],
    folder: Path,
    wanted: Sequence[Mapping[str, Any]],
    **config: object,
) -> Iterator[Elections]:
    """Elections and their stores in a namespace of their own, until the end of the block."""
    with (
        kube.namespace("election") as namespace,
        throwaway(cluster, PROGRAMS / "election", folder, destroy=False) as stack,
        ExitStack() as kept,
    ):
        stack.up(namespace=namespace, images=dict(images), elections=list(wanted), **config)
        witnesses = {}
        for fenced, name in ((True, "fenced-0"), (False, "unfenced-0")):
            witnesses[fenced] = Witness(kube, kube.ready_pod(namespace, name))
            kept.callback(witnesses[fenced].stop)
        yield Elections(kube, nodes, stack, namespace, witnesses, wanted)


def side_by_side(*tasks: Callable[[], object]) -> None:
    """Run them all at once; the first that failed is raised when all have ended."""
    errors: list[BaseException] = []

    def guarded(task: Callable[[], object]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 (raised below, where pytest sees it)
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
