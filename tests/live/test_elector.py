"""The elector, its pieces one by one: the lock, the companion and what it tells the application.

The same tests run on both backends: electors are processes of this machine, on an etcd of their own
(three members, users, tokens) and on Leases of the cluster. What a pod adds is at the end.
"""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from elector.belief import monotonic
from elector.etcd import encoded
from elector.lock import Lock
from elector.seed import SeedLock
from kubernetes import client

from tests.live.support.cluster import Cluster
from tests.live.support.electors import (
    ELECTION_SECONDS,
    Contest,
    EtcdStore,
    LeaseStore,
    LocalEtcd,
    Store,
    contest,
    lease_store,
)
from tests.live.support.kube import ExecError, Kube, Pod
from tests.live.support.stacks import PROGRAMS, throwaway
from tests.live.support.variants import built_images
from tests.live.support.waiting import eventually, patience

# A machine that is busy with other tests can take seconds for an answer; nobody must lead no more
# for that.
TTL = 10.0


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdStore]:
    members = LocalEtcd(tmp_path_factory.mktemp("etcd") / "members")
    try:
        members.start()
        members.enable_users()
        store = EtcdStore(members)
        yield store
        store.close()
    finally:
        members.stop()


@pytest.fixture(scope="module")
def lease(
    cluster: Cluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LeaseStore]:
    with lease_store(cluster, kube, tmp_path_factory.mktemp("lease")) as store:
        yield store


@pytest.fixture(params=["etcd", "lease"])
def keeper(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


# The lock


def test_a_lock_is_taken_renewed_and_given_up(keeper: Store) -> None:
    election = keeper.election()
    mine, other = (keeper.lock(election, who, 15, 1) for who in ("mine", "other"))
    assert mine.simple_lock(), "an answer took longer than the lock lasts"
    assert not other.simple_lock()
    before = mine.until
    assert mine.renew()
    assert before is not None
    assert mine.until is not None
    assert mine.until > before
    assert 0 < mine.valid_for() <= 14
    first = mine.version
    assert mine.unlock()
    assert mine.version is None
    assert other.simple_lock()
    assert first is not None
    assert other.version is not None
    assert other.version > first
    other.close()


def test_waiting_ends_by_a_word_of_the_store(keeper: Store) -> None:
    election = keeper.election()
    mine, other = (keeper.lock(election, who, 300, 1) for who in ("mine", "other"))
    assert mine.simple_lock()
    got: list[float] = []

    def wait() -> None:
        if other.lock(timeout=patience(20)):
            got.append(monotonic())

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.5)
    assert not got
    given_up = monotonic()
    assert mine.unlock()
    waiting.join(patience(20))
    (at,) = got
    # Long before it expires. That nothing is asked meanwhile is shown by what etcd counts, below.
    assert at - given_up < 150
    other.close()


def test_six_steps_leave_one_owner_with_a_version(keeper: Store) -> None:
    election = keeper.election()
    one = keeper.lock(election, "one", 5, 0.5)
    # Time enough for the steps after the second; only the first's has to run out.
    two, three = (keeper.lock(election, who, 60, 1) for who in ("two", "three"))
    assert one.simple_lock()
    first = one.version
    # Process-1 is slow for longer than its time; Process-2 gets the lock.
    assert two.lock(timeout=60)
    assert one.unlock() is False
    assert not three.simple_lock()
    assert two.renew()
    assert (one.version, three.version) == (None, None)
    assert first is not None
    assert two.version is not None
    assert two.version > first
    for lock in (one, two, three):
        lock.close()


def test_six_steps_leave_two_owners_without_a_version(etcd: EtcdStore) -> None:
    election = etcd.election()
    one, two, three = (SeedLock(etcd.client(), election, ttl) for ttl in (2, 60, 60))
    assert one.simple_lock()
    eventually(two.simple_lock, 60, "the lock of the first has expired")
    assert one.unlock(), "it unlocks what is another's"
    assert three.simple_lock()
    assert two.renew()
    assert three.renew(), "two own it"


def test_a_crowd_gets_it_one_after_the_other_with_tokens_that_grow(keeper: Store) -> None:
    election = keeper.election()
    tokens: list[int] = []
    inside = threading.Lock()

    def take_turns(lock: Lock) -> None:
        assert lock.lock(timeout=patience(30))
        assert inside.acquire(blocking=False), "another is inside"
        tokens.append(lock.version or 0)
        inside.release()
        assert lock.unlock()
        lock.close()

    threads = [
        threading.Thread(target=take_turns, args=(keeper.lock(election, f"p{i}", 10, 1),))
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(40))
    assert len(tokens) == 6
    assert tokens == sorted(set(tokens))


# The companion


@pytest.fixture(scope="module")
def contests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Store], Contest]]:
    """Three electors on each backend, for all tests that leave them as good as new."""
    with ExitStack() as kept:
        running: dict[str, Contest] = {}

        def on(keeper: Store) -> Contest:
            if keeper.name not in running:
                folder = tmp_path_factory.mktemp(keeper.name) / "electors"
                running[keeper.name] = kept.enter_context(contest(keeper, folder, count=3, ttl=TTL))
            return running[keeper.name]

        yield on


@pytest.fixture
def electors(keeper: Store, contests: Callable[[Store], Contest]) -> Contest:
    running = contests(keeper)
    running.renew()
    return running


def test_one_leads_and_all_say_who(electors: Contest) -> None:
    leader = electors.leader()
    standing = leader.standing()
    assert list(standing) == ["election", "identity", "leader", "leading", "token", "valid_for"]
    assert standing["leader"] == standing["identity"] == leader.identity
    assert 0 < standing["valid_for"] <= TTL * 0.9
    for other in electors.others(leader):

        def knows(other: Any = other) -> bool:
            return bool(other.standing()["leader"] == leader.identity)

        eventually(knows, 20, "a follower knows the leader")
        assert other.standing() == {
            "election": "duty",
            "identity": other.identity,
            "leader": leader.identity,
            "leading": False,
            "token": None,
            "valid_for": 0,
        }
        # A follower is ready.
        assert other.ask(path="/readyz", port=other.metrics_port) == (200, {"ready": True})
        assert other.ask(path="/healthz", port=other.metrics_port) == (200, {"alive": True})
        assert other.metrics()["elector_leading"] == 0
    # It renews, and keeps its token.
    before = leader.metrics()
    renewals = before["elector_renew_seconds_count"] + 2
    eventually(
        lambda: leader.metrics()["elector_renew_seconds_count"] >= renewals,
        2 * TTL,
        electors.describe,
    )
    assert leader.standing()["token"] == standing["token"]
    metrics = leader.metrics()
    assert metrics["elector_leading"] == 1
    assert metrics["elector_term"] == standing["token"]
    assert metrics["elector_elections_won_total"] == before["elector_elections_won_total"]
    assert "elector_leader{" in leader.ask(path="/metrics", port=leader.metrics_port)[1]
    # What changes something is on the pod's own port only.
    assert leader.ask("POST", "/resign", leader.metrics_port)[0] == 501
    assert leader.ask(path="/nothing")[0] == 404
    assert leader.standing()["leading"]


def test_who_resigns_is_followed_at_once_and_waits_to_be_asked(electors: Contest) -> None:
    leader = electors.leader()
    before = leader.standing()["token"]
    lost = leader.events()
    heard = electors.listen(electors.others(leader))
    since = monotonic()
    answer = leader.post("/resign")
    assert answer["released"]
    assert answer["leading"] is False
    seconds, successor, standing = electors.successor(heard, since, 30)
    # Without a release it would take more than two thirds of the TTL.
    assert seconds < TTL / 2
    assert standing["token"] > before
    lost.first(15, leading=False)
    # It is not back by itself, even when all others go.
    others = electors.others(leader)
    for other in others:
        other.post("/resign")
    time.sleep(0.5)
    assert not any(e.standing()["leading"] for e in electors.electors)
    eventually(lambda: leader.standing()["leader"] is None, 20, "nobody leads")
    leader.post("/campaign")
    assert electors.leader() is leader
    assert successor is not leader


def test_sigterm_releases(electors: Contest) -> None:
    leader = electors.leader()
    before = leader.standing()["token"]
    heard = electors.listen(electors.others(leader))
    since = leader.signal(signal.SIGTERM)
    seconds, _, standing = electors.successor(heard, since, 30)
    assert seconds < TTL / 2
    assert standing["token"] > before
    assert leader.process.wait(30) == 0


def test_a_crash_is_followed_within_the_ttl_and_a_new_process_waits_its_turn(
    electors: Contest,
) -> None:
    leader = electors.leader()
    before = leader.standing()["token"]
    heard = electors.listen(electors.others(leader))
    since = leader.signal(signal.SIGKILL)
    # The same pod's elector starts again: the former one's leadership is not its own.
    leader.restart()
    eventually(leader.serves, 20, electors.describe)
    heard += electors.listen([leader])
    seconds, successor, standing = electors.successor(heard, since, 30)
    assert TTL / 2 < seconds < TTL * 1.5
    assert standing["token"] > before
    if successor is not leader:
        eventually(lambda: _follows(leader, successor.identity), 10, electors.describe)
        assert leader.standing()["leading"] is False


def test_who_was_paused_beyond_its_time_knows_it_first_thing(electors: Contest) -> None:
    leader = electors.leader()
    before = leader.metrics()["elector_elections_lost_total"]
    heard = electors.listen(electors.others(leader))
    asked = monotonic()
    believed = leader.standing()
    since = leader.signal(signal.SIGSTOP)
    seconds, successor, standing = electors.successor(heard, since, 30)
    # Renewals between the answer and the signal can have moved the end, but not beyond a TTL.
    assert seconds < TTL * 1.5
    assert since + seconds > asked + believed["valid_for"]
    time.sleep(0.2)
    leader.signal(signal.SIGCONT)
    first = leader.standing()
    assert first["leading"] is False
    assert first["valid_for"] == 0
    assert standing["token"] > believed["token"]
    eventually(lambda: _follows(leader, successor.identity), 10, electors.describe)
    eventually(
        lambda: leader.metrics()["elector_elections_lost_total"] == before + 1,
        10,
        electors.describe,
    )


_WORKER = """
import sys, time, urllib.request
while True:
    with urllib.request.urlopen(sys.argv[1], timeout=60) as answer:
        answer.read()
    time.sleep(0.2)
"""


def test_a_worker_that_hangs_or_has_ended_costs_the_leadership(
    keeper: Store, tmp_path: Path
) -> None:
    # Who is renewed for until then, leads for ten minutes more at least.
    renewed, ttl = 60.0, 900.0
    silence = ["--worker-seconds", "10"]
    more = {0: silence, 1: silence}
    with (
        contest(keeper, tmp_path / "electors", count=2, ttl=ttl, more=more) as electors,
        ExitStack() as kept,
    ):

        def metric(elector: Any, name: str) -> float:
            # Whoever asks at the other port counts as the worker.
            return float(elector.metrics()[f"elector_{name}"])

        def leader() -> Any:
            leading = [e for e in electors.electors if metric(e, "leading") == 1]
            return leading[0] if len(leading) == 1 else None

        # Nobody campaigns for a worker that was never there.
        time.sleep(1)
        assert leader() is None

        def worker(elector: Any) -> subprocess.Popen[bytes]:
            url = f"http://127.0.0.1:{elector.port}/"
            process = subprocess.Popen([sys.executable, "-c", _WORKER, url])
            kept.callback(process.wait)
            kept.callback(process.kill)
            return process

        workers = {elector.identity: worker(elector) for elector in electors.electors}
        first = eventually(leader, renewed, electors.describe)
        (second,) = electors.others(first)
        token = metric(first, "term")
        eventually(lambda: metric(second, "campaigning") == 1, renewed, electors.describe)
        # It hangs.
        since = monotonic()
        workers[first.identity].send_signal(signal.SIGSTOP)
        eventually(lambda: leader() is second, renewed, electors.describe)
        assert monotonic() - since < ttl / 2
        assert metric(first, "workers_lost_total") >= 1
        assert metric(first, "campaigning") == 0
        assert metric(second, "term") > token
        # It goes on, and takes part again.
        workers[first.identity].send_signal(signal.SIGCONT)
        eventually(lambda: metric(first, "campaigning") == 1, renewed, electors.describe)
        # It has ended.
        since = monotonic()
        workers[second.identity].kill()
        eventually(lambda: leader() is first, renewed, electors.describe)
        assert monotonic() - since < ttl / 2


def _follows(elector: Any, identity: str) -> bool:
    try:
        return bool(elector.standing()["leader"] == identity)
    except OSError:
        return False


# etcd


def test_members_that_start_anew_cost_no_leadership(etcd: EtcdStore, tmp_path: Path) -> None:
    with contest(etcd, tmp_path / "electors", count=2, ttl=15, renew=1) as electors:
        leader = electors.leader()
        token = leader.standing()["token"]
        events = leader.events()
        # The member that leads too; each has forgotten the tokens of the users.
        for number in range(3):
            etcd.etcd.restart(number)
            etcd.etcd.wait()
            # A renewal at each.
            time.sleep(1.5)
        assert leader.standing()["token"] == token
        for elector in electors.electors:
            eventually(
                lambda elector=elector: elector.metrics()["elector_store_in_touch"] == 1,  # type: ignore[misc]
                15,
                electors.describe,
            )
        assert {line["leading"] for _, line in events.lines} == {True}
        heard = electors.listen(electors.others(leader))
        since = leader.signal(signal.SIGTERM)
        seconds, _, _ = electors.successor(heard, since, 30)
        # Without a release it would take at least 13.
        assert seconds < 10, "the follower has found another member to watch"


def test_a_lost_majority_ends_the_belief_in_time_and_a_new_term_begins_with_it(
    etcd: EtcdStore, tmp_path: Path
) -> None:
    with contest(etcd, tmp_path / "electors", count=2, ttl=TTL) as electors:
        leader = electors.leader()
        token = leader.standing()["token"]
        events = leader.events()
        gone = monotonic()
        for number in (0, 1):
            etcd.etcd.kill(number)
        try:
            at, _ = events.first(TTL * 2, leading=False)
            # A leader of etcd acknowledges until it knows that it is alone.
            assert at - gone < TTL + 2 * ELECTION_SECONDS
            assert not any(e.standing()["leading"] for e in electors.electors)
            assert leader.ask(path="/readyz", port=leader.metrics_port)[0] == 200
            eventually(
                lambda: leader.metrics()["elector_store_in_touch"] == 0, 10, "it has noticed"
            )
        finally:
            for number in (0, 1):
                etcd.etcd.restart(number)
        etcd.etcd.wait()
        again = electors.leader(40)
        assert again.standing()["token"] > token


def test_a_key_that_is_deleted_by_hand_costs_the_leadership_at_once(
    etcd: EtcdStore, tmp_path: Path
) -> None:
    with contest(etcd, tmp_path / "electors", count=2, ttl=300) as electors:
        leader = electors.leader()
        token = leader.standing()["token"]
        events = leader.events()
        key = encoded(leader.election)
        deleted = etcd.etcd.root_etcd().call("kv/deleterange", {"key": key})["deleted"]
        since = monotonic()
        assert deleted == "1"
        at, _ = events.first(15, leading=False)
        # The next renewal is a hundred seconds away.
        assert at - since < 80

        def again() -> bool:
            standings = [e.standing() for e in electors.electors]
            return any(s["leading"] and s["token"] > token for s in standings)

        eventually(again, 20, electors.describe)


def test_an_election_costs_a_keepalive_and_a_read_a_renewal(
    etcd: EtcdStore, contests: Callable[[Store], Contest], tmp_path: Path
) -> None:
    with ExitStack() as kept:
        for other in contests(etcd).electors:
            # Nobody else renews meanwhile, nor looks again at a watch that was silent for long.
            if other.process.poll() is None:
                other.post("/resign")
                other.signal(signal.SIGSTOP)
                kept.callback(other.signal, signal.SIGCONT)
        electors = kept.enter_context(
            contest(etcd, tmp_path / "electors", count=3, ttl=60, renew=0.5)
        )
        leader = electors.leader()

        def undisturbed() -> bool:
            began, before = monotonic(), _handled(etcd)
            time.sleep(3)
            after, spent = _handled(etcd), monotonic() - began
            done = {k: v - before.get(k, 0) for k, v in after.items()}
            assert leader.standing()["leading"]
            # Fewer on a busy machine, but never more.
            for question in ("LeaseKeepAlive", "Range"):
                assert 0 < done.pop(question, 0) <= spent / 0.5 + 1, done
            # The others wait at their watches and ask nothing.
            questions = ("Txn", "Put", "LeaseGrant", "Watch", "Authenticate")
            assert {k: v for k, v in done.items() if v and k in questions} == {}
            return True

        # Again where a follower came late to its watch, or etcd's members were disturbed.
        eventually(undisturbed, 40, electors.describe)


def _handled(etcd: EtcdStore) -> dict[str, float]:
    """How many requests of each kind the members have answered."""
    import requests  # noqa: PLC0415

    counts: dict[str, float] = {}
    for endpoint in etcd.etcd.endpoints:
        for line in requests.get(f"{endpoint}/metrics", timeout=5).text.splitlines():
            if line.startswith("grpc_server_started_total{"):
                method = line.partition('grpc_method="')[2].partition('"')[0]
                counts[method] = counts.get(method, 0) + float(line.rpartition(" ")[2])
    return counts


# A Lease


def test_what_others_write_to_a_lease_costs_no_leadership(
    lease: LeaseStore, tmp_path: Path
) -> None:
    with contest(lease, tmp_path / "electors", count=2, ttl=15, renew=1) as electors:
        leader = electors.leader()
        (found,) = _leases(lease, leader.election)
        assert found["spec"]["holderIdentity"] == leader.identity
        assert found["spec"]["leaseDurationSeconds"] == 15
        token = leader.standing()["token"]
        assert found["spec"]["leaseTransitions"] == token == 1
        for number in range(5):
            lease.kube.apply(
                {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {
                        "name": leader.election,
                        "namespace": lease.namespace,
                        "annotations": {"note": str(number)},
                    },
                }
            )
            time.sleep(0.3)
        time.sleep(1.5)
        assert leader.standing()["token"] == token
        assert leader.metrics()["elector_elections_won_total"] == 1


def test_a_deleted_lease_is_nobodys_and_its_count_starts_again(
    lease: LeaseStore, tmp_path: Path
) -> None:
    with contest(lease, tmp_path / "electors", count=2, ttl=15) as electors:
        leader = electors.leader()
        events = leader.events()
        leader.post("/resign")
        second = electors.leader(40, but=leader)
        assert second.standing()["token"] == 2
        leader.post("/campaign")
        lost = second.events()
        lease.kube.delete("coordination.k8s.io/v1", "Lease", lease.namespace, leader.election)
        lost.first(15, leading=False)
        time.sleep(0.5)
        assert not any(e.standing()["leading"] for e in electors.electors)
        lease.kube.apply(
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": leader.election, "namespace": lease.namespace},
            }
        )
        assert electors.leader(40).standing()["token"] == 1
        assert events.lines


def _leases(lease: LeaseStore, name: str) -> list[dict[str, Any]]:
    found = lease.kube.objects("coordination.k8s.io/v1", "Lease", lease.namespace)
    return [one for one in found if one["metadata"]["name"] == name]


# Telling the application


class _Heard(http.server.ThreadingHTTPServer):
    """An application's server, which fails at first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Callback)
        self.standings: list[dict[str, Any]] = []
        self.failures = 2
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Callback(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        heard: Any = self.server
        if heard.failures:
            heard.failures -= 1
            self.send_response(503)
        else:
            heard.standings.append({"path": self.path, **json.loads(body)})
            self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


_LISTENER = """
import pathlib, signal, sys, time
seen = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGUSR1, lambda *_: seen.open("a").write("heard\\n"))
seen.write_text("")
time.sleep(120)
"""


def test_the_application_is_told_by_request_and_by_signal(etcd: EtcdStore, tmp_path: Path) -> None:
    server = _Heard()
    script = tmp_path / f"listener-{os.getpid()}.py"
    script.write_text(_LISTENER)
    seen = tmp_path / "seen"
    listener = subprocess.Popen([sys.executable, str(script), str(seen)])
    more = {
        0: ["--on-change-url", f"http://localhost:{server.server_port}/leadership"],
        1: ["--on-change-signal", "USR1", "--on-change-process", script.name],
    }
    try:
        eventually(seen.exists, 10, "the listener listens")
        with contest(etcd, tmp_path / "electors", count=2, ttl=TTL, more=more) as electors:
            by_request, by_signal = electors.electors
            electors.leader()
            by_signal.post("/resign")
            eventually(lambda: by_request.standing()["leading"], 20, electors.describe)
            by_signal.post("/campaign")

            def told(**wanted: Any) -> bool:
                last = server.standings[-1] if server.standings else {}
                return all(last.get(key) == value for key, value in wanted.items())

            def told_that_it_leads() -> bool:
                token = by_request.standing()["token"]
                return told(path="/leadership", leading=True, token=token)

            # Twice in vain: it is told again until it hears.
            eventually(told_that_it_leads, 20, "that it leads")
            # Once more where an answer took too long.
            assert by_request.metrics()["elector_notification_failures_total"] >= 2
            eventually(lambda: "heard" in seen.read_text(), 20, "that another leads")
            seen.write_text("")
            heard = electors.listen([by_signal])
            since = by_request.signal(signal.SIGTERM)
            eventually(lambda: told(leading=False, token=None), 20, "that it does not lead")
            eventually(lambda: "heard" in seen.read_text(), 20, "that it leads")
            seconds, _, _ = electors.successor(heard, since, 30)
            assert seconds < TTL / 2
    finally:
        listener.kill()
        listener.wait()
        server.shutdown()
        server.server_close()


# In a pod


@dataclass(frozen=True)
class Deployed:
    """The program ``elector``."""

    kube: Kube
    namespace: str
    leases: dict[str, str]

    def pods(self, name: str) -> list[Pod]:
        pods = self.kube.pods(self.namespace, {"app.kubernetes.io/instance": name})
        return [pod for pod in pods if pod.ready]

    def standing(self, pod: Pod, port: int = 4040) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.fetch(pod, "app", f"http://127.0.0.1:{port}/"))
        return found

    def fetch(self, pod: Pod, container: str, url: str) -> str:
        script = f"import urllib.request as r; print(r.urlopen({url!r}, timeout=3).read().decode())"
        return self.kube.run(pod, container, ["python3", "-c", script], 30)

    def leader(self, port: int = 4040, but: str = "") -> Pod:
        def found() -> Pod | None:
            pods = [pod for pod in self.pods("app") if pod.uid != but]
            leading = [pod for pod in pods if self.standing(pod, port)["leading"]]
            return leading[0] if len(leading) == 1 else None

        pod = eventually(found, 60, lambda: self.kube.describe(self.namespace))
        assert pod is not None
        return pod


@pytest.fixture(scope="module")
def deployed(
    cluster: Cluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    images = built_images(
        cluster, tmp_path_factory.getbasetemp() / "elector-images", ("elector", "toolbox")
    )
    folder = tmp_path_factory.mktemp("elector") / "stack"
    with (
        kube.namespace("elector") as namespace,
        throwaway(cluster, PROGRAMS / "elector", folder, destroy=False) as stack,
    ):
        stack.up(namespace=namespace, images=dict(images))
        yield Deployed(kube, namespace, stack.outputs()["leases"])


def test_in_a_pod_the_application_is_told_by_both_ways(deployed: Deployed) -> None:
    def told_by_request() -> bool:
        leader = deployed.leader()
        log = deployed.kube.logs(leader, "app").splitlines()
        told = [json.loads(line.partition(" ")[2]) for line in log if line.startswith("request")]
        token = deployed.standing(leader)["token"]
        return bool(told and told[-1]["leading"] and told[-1]["token"] == token)

    def logs(container: str) -> str:
        return "\n".join(deployed.kube.logs(pod, container) for pod in deployed.pods("app"))

    eventually(told_by_request, 60, lambda: logs("by-request"))
    eventually(
        lambda: "signal" in deployed.kube.logs(deployed.leader(4050), "app"),
        60,
        lambda: logs("by-signal"),
    )


def test_in_a_pod_only_the_elector_may_ask_the_api_and_only_for_its_lease(
    deployed: Deployed,
) -> None:
    pod = deployed.leader()
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    assert deployed.kube.run(pod, "by-request", ["cat", token])
    with pytest.raises(ExecError):
        deployed.kube.run(pod, "app", ["cat", token])
    account = deployed.kube.core.read_namespaced_pod(pod.name, deployed.namespace)
    user = f"system:serviceaccount:{deployed.namespace}:{account.spec.service_account_name}"
    review = client.AuthorizationV1Api(deployed.kube.core.api_client)

    def may(verb: str, resource: str, name: str = "", group: str = "coordination.k8s.io") -> bool:
        asked = client.V1SubjectAccessReview(
            spec=client.V1SubjectAccessReviewSpec(
                user=user,
                resource_attributes=client.V1ResourceAttributes(
                    namespace=deployed.namespace,
                    verb=verb,
                    group=group,
                    resource=resource,
                    name=name,
                ),
            )
        )
        return bool(review.create_subject_access_review(asked).status.allowed)

    for verb in ("get", "watch", "update"):
        assert may(verb, "leases", deployed.leases["by-request"])
        assert not may(verb, "leases", "another")
        assert not may(verb, "secrets", group="")
    assert not may("create", "leases")
    assert not may("delete", "leases", deployed.leases["by-request"])


def test_in_a_pod_the_metrics_are_for_whom_they_are_opened(deployed: Deployed) -> None:
    ((scraper,), (stranger,)) = (deployed.pods(name) for name in ("scraper", "stranger"))

    def shown() -> Pod | None:
        pod = deployed.leader()
        text = deployed.fetch(scraper, "scraper", f"http://{pod.address}:4041/metrics")
        leads = f'elector_leading{{election="by-request",identity="{pod.name}"}} 1'
        return pod if leads in text else None

    pod = eventually(shown, 60, "the leader's metrics say that it leads")
    assert pod is not None
    url = f"http://{pod.address}:4041/metrics"
    with pytest.raises(ExecError):
        deployed.fetch(stranger, "stranger", url)
    # What changes something listens on loopback.
    with pytest.raises(ExecError):
        deployed.fetch(scraper, "scraper", f"http://{pod.address}:4040/")


def test_a_deleted_pod_hands_over(deployed: Deployed) -> None:
    leader = deployed.leader()
    token = deployed.standing(leader)["token"]
    deployed.kube.delete_pod(leader)
    # The pod that was there or the one that takes the deleted one's place.
    successor = deployed.leader(but=leader.uid)
    assert deployed.standing(successor)["token"] > token
