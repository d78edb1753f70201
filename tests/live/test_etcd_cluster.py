"""An etcd cluster on the real one: who is let in, what faults cost, and the ways back."""

import contextlib
import copy
import itertools
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.live.in_pod.etcd import b64
from tests.live.support.cluster import Cluster
from tests.live.support.kube import Exec, InPod, Kube, Pod
from tests.live.support.nodes import Nodes
from tests.live.support.observed import Record
from tests.live.support.stacks import PROGRAMS, Stack, throwaway
from tests.live.support.variants import built_images
from tests.live.support.waiting import eventually

MEMBERS = ("etcd-0", "etcd-1", "etcd-2")
ENDPOINTS = [f"https://{member}:2379" for member in MEMBERS]
MODULE = "tests.live.in_pod.etcd"
# A killed container is started again, replays its log and finds the others.
BACK_SECONDS = 120


@dataclass
class Etcd:
    kube: Kube
    nodes: Nodes
    stack: Stack
    namespace: str
    generation: int = 1
    """Of all passwords."""

    def inside(self, name: str) -> InPod:
        pods = self.kube.pods(self.namespace, f"app.kubernetes.io/instance={name}")
        # An update may have left its predecessor, which is on its way out.
        return InPod(self.kube, next(pod for pod in pods if pod.ready), name)

    @property
    def client(self) -> InPod:
        return self.inside("client")

    def ask(self, do: str, **request: Any) -> Any:
        request.setdefault("endpoints", ENDPOINTS)
        return self.client.ask(do, module=MODULE, **request)

    def call(self, path: str, body: Mapping[str, Any] | None = None, user: str = "root") -> Any:
        answer = self.ask("call", path=path, body=dict(body or {}), user=user)
        assert answer["status"] == 200, answer
        return answer["body"]

    def credentials(self, user: str) -> list[str]:
        """Name and password, as clients have them at present."""
        name, password = self.ask("credentials", user=user)
        return [name, password]

    def writing(self, prefix: str, seconds: float) -> Exec:
        return self.client.start(
            "write", MODULE, endpoints=ENDPOINTS, user="one", prefix=prefix, seconds=seconds
        )

    def write_again(self, prefix: str, timeout: float = 60) -> None:
        """Wait until a write is acknowledged."""
        eventually(
            lambda: loads(self.writing(prefix, 0.5))["acknowledged"], timeout, "writes are taken"
        )

    def pod(self, member: str) -> Pod:
        found = self.kube.pod(self.namespace, member)
        assert found is not None
        return found

    def members(self) -> dict[str, dict[str, Any]]:
        listed = self.call("/v3/cluster/member/list", {"linearizable": True})["members"]
        return {entry.get("name", ""): entry for entry in listed}

    def all_members(self) -> dict[str, dict[str, Any]]:
        """The same once each has told the others its name, which it may do after it is ready."""
        found: dict[str, dict[str, Any]] = {}

        def named() -> bool:
            nonlocal found
            found = self.members()
            assert sorted(found) == list(MEMBERS), found
            return True

        eventually(named, 60, "three members have a name")
        return found

    def sizes(self) -> list[tuple[int, int]]:
        """Bytes of each member's file, and bytes of it in use."""
        found = []
        for endpoint in ENDPOINTS:
            url = f"{endpoint}/v3/maintenance/status"
            answer = self.ask("one", url=url, body={}, user="root")
            assert answer["status"] == 200, answer
            status = answer["body"]
            found.append((int(status["dbSize"]), int(status["dbSizeInUse"])))
        return found

    def leader(self) -> str:
        leader = self.call("/v3/maintenance/status")["leader"]
        (name,) = [name for name, entry in self.members().items() if entry["ID"] == leader]
        return name

    def run_now(self, component: str, timeout: float = 240) -> str:
        """Run what a CronJob would run; the log of it."""
        batch = self.kube.batch
        (cron,) = batch.list_namespaced_cron_job(
            self.namespace, label_selector=f"app.kubernetes.io/component={component}"
        ).items
        name = f"{component}-{int(time.time() * 10) % 10**7}"
        job = client.V1Job(
            metadata=client.V1ObjectMeta(name=name), spec=copy.copy(cron.spec.job_template.spec)
        )
        batch.create_namespaced_job(self.namespace, job)

        def done() -> bool:
            # It tries again where a member did not answer in time.
            return bool(batch.read_namespaced_job(name, self.namespace).status.succeeded)

        eventually(
            done, timeout, lambda: f"{self._log(name)}\n{self.kube.describe(self.namespace)}"
        )
        return self._log(name)

    def _log(self, job: str) -> str:
        return "\n".join(
            self.kube.logs(pod, "etcd-tools")
            for pod in self.kube.pods(self.namespace, f"job-name={job}")
        )


@pytest.fixture(scope="module")
def etcd(
    cluster: Cluster, kube: Kube, nodes: Nodes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Etcd]:
    """Three members, two users, a client pod, and a volume for snapshots."""
    folder: Path = tmp_path_factory.mktemp("etcd")
    images = built_images(cluster, folder / "images", ("etcd",))
    with (
        kube.namespace("etcd") as namespace,
        throwaway(cluster, PROGRAMS / "etcd", folder / "stack", destroy=False) as stack,
    ):
        stack.up(namespace=namespace, images=dict(images))
        yield Etcd(kube, nodes, stack, namespace)


def test_three_members_with_a_volume_each_on_different_nodes(etcd: Etcd) -> None:
    members = etcd.all_members()
    assert all(entry["clientURLs"] for entry in members.values())
    pods = [back(etcd, member) for member in MEMBERS]
    assert len({pod.node for pod in pods}) == min(len(etcd.kube.nodes()), len(MEMBERS))
    claims = etcd.kube.objects("v1", "PersistentVolumeClaim", etcd.namespace)
    assert {f"data-{member}" for member in MEMBERS} <= {c["metadata"]["name"] for c in claims}


# Who is refused


# Who speaks no TLS is hung up on; with a request unread, that is a reset.
PLAIN_REFUSED = "closed connection|[Cc]onnection reset"
PUT = {"key": b64("/one/x"), "value": b64("x")}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"url": "http://etcd-0:2379/v3/kv/put", "body": PUT, "user": "one"}, PLAIN_REFUSED),
        ({"url": "https://etcd-0:2379/v3/kv/put", "body": PUT}, "user name is empty"),
        (
            {
                "url": "https://etcd-0:2379/v3/auth/authenticate",
                "body": {"name": "one", "password": "wrong"},
            },
            "invalid user ID or password",
        ),
        (
            {
                "url": "https://etcd-0:2379/v3/kv/put",
                "body": {**PUT, "key": b64("/two/x")},
                "user": "one",
            },
            "permission denied",
        ),
        (
            {
                "url": "https://etcd-0:2379/v3/kv/range",
                # All keys from the first of the own prefix to the last of the other's.
                "body": {"key": b64("/one/"), "range_end": b64("/two0")},
                "user": "one",
            },
            "permission denied",
        ),
        (
            {"url": "https://etcd-0:2379/v3/auth/user/list", "body": {}, "user": "one"},
            "permission denied",
        ),
    ],
    ids=["plain", "no token", "wrong password", "other prefix", "wider range", "users"],
)
def test_who_has_no_right_is_refused(etcd: Etcd, request_: dict[str, Any], expected: str) -> None:
    is_refused(etcd, request_, expected)


def is_refused(etcd: Etcd, request_: dict[str, Any], expected: str) -> None:
    """Wait until a request is refused for this reason; one that is served fails at once."""

    def refused() -> bool:
        answer = etcd.ask("one", **request_)
        if answer["status"] == 200:
            pytest.fail(f"it is served: {answer}")
        # Or it had no time to say no.
        assert re.search(expected, answer["error"]), answer
        return True

    eventually(refused, 30, "it is refused for this reason")


def test_who_has_the_right_is_served(etcd: Etcd) -> None:
    request = {"url": "https://etcd-0:2379/v3/kv/put", "body": PUT, "user": "one"}
    eventually(lambda: etcd.ask("one", **request)["status"] == 200, 30, "it is served")


@pytest.mark.parametrize("port", [2380, 2381])
def test_ports_for_members_and_probes_are_closed_to_clients(etcd: Etcd, port: int) -> None:
    pod = etcd.pod("etcd-0")
    scheme = "https" if port == 2380 else "http"
    answer = etcd.ask("one", url=f"{scheme}://{pod.address}:{port}/version", body={})
    assert answer["status"] == 0, answer
    # The NetworkPolicy refuses, not etcd.
    assert any(text in answer["error"] for text in ("No route", "refused", "timed out")), answer


def test_a_pod_without_a_reach_of_them_gets_no_connection(etcd: Etcd) -> None:
    url = f"https://{etcd.pod('etcd-1').address}:2379/version"

    def told(name: str) -> str:
        answer = etcd.inside(name).ask("one", module=MODULE, url=url, body={}, timeout=1)
        assert answer["status"] == 0, answer
        return str(answer["error"])

    # By an address it is TLS that refuses, so it is let in.
    assert "CERTIFICATE" in told("client")
    assert "CERTIFICATE" not in told("stranger")


# Faults


def test_a_killed_leader_costs_no_acknowledged_write(etcd: Etcd, record: Record) -> None:
    leader = etcd.leader()
    pod = etcd.pod(leader)
    writing = etcd.writing("/one/killed/", 8)
    time.sleep(2)
    etcd.nodes.kill(pod, "etcd")
    # The others elect, and writes go on, whether or not the killed one is back.
    etcd.write_again("/one/after-killed/")
    written = loads(writing)["acknowledged"]
    acknowledged = {number for number, _ in written}
    assert acknowledged
    times = [second for _, second in written]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    record.note("etcd, leader killed", seconds_without_a_write=round(max(pauses), 2))
    assert acknowledged <= set(etcd.ask("numbers", user="one", prefix="/one/killed/"))
    etcd.kube.restarted(pod, "etcd", timeout=BACK_SECONDS)


def test_without_a_majority_nothing_is_written_until_it_is_back(etcd: Etcd) -> None:
    token = etcd.ask("token", user="one")
    put = {"url": f"{ENDPOINTS[2]}/v3/kv/put", "body": PUT, "token": token, "timeout": 6}
    assert etcd.ask("one", **put)["status"] == 200
    with contextlib.ExitStack() as paused:
        for member in MEMBERS[:2]:
            paused.enter_context(etcd.nodes.paused(etcd.pod(member), "etcd"))
        refused = etcd.ask("one", **put)
        assert refused["status"] != 200, refused
        eventually(
            lambda: not etcd.pod(MEMBERS[2]).ready, 45, "the last member is taken out of service"
        )
        # It is not restarted for what it cannot help.
        assert etcd.pod(MEMBERS[2]).containers["etcd"]
    etcd.write_again("/one/back/")
    for member in MEMBERS:
        back(etcd, member)


def test_a_member_whose_volume_is_lost_is_replaced(etcd: Etcd, record: Record) -> None:
    before = etcd.all_members()
    writing = etcd.writing("/one/lost/", 12)
    lost = etcd.pod("etcd-1")
    began = time.monotonic()
    # Deleting the claim first: it goes with the pod that uses it, and so does what is on it.
    etcd.kube.core.delete_namespaced_persistent_volume_claim("data-etcd-1", etcd.namespace)
    etcd.kube.delete_pod(lost)
    # Meanwhile nobody may take a second one away.
    eventually(lambda: not ready(etcd, "etcd-1"), 20, "the member is gone")
    eventually(lambda: evicted(etcd, "etcd-0") == 429, 20, "an eviction is refused")
    back(etcd, "etcd-1", not_uid=lost.uid)
    record.note("etcd, volume lost", seconds_to_ready=round(time.monotonic() - began, 1))
    after = etcd.all_members()
    assert after["etcd-1"]["ID"] != before["etcd-1"]["ID"]
    assert after["etcd-0"]["ID"] == before["etcd-0"]["ID"]
    log = etcd.kube.logs(etcd.pod("etcd-1"), "prepare")
    assert "is lost: removing the member" in log
    written = loads(writing)
    acknowledged = {number for number, _ in written["acknowledged"]}
    assert acknowledged
    # Asked alone, without the others, the new member has it all.
    alone = {"at": ENDPOINTS[1:2], "serializable": True}

    def has_everything() -> bool:
        # Fails while it has not heard of the users yet.
        found = etcd.ask("numbers", user="one", prefix="/one/lost/", **alone)
        return set(found) >= acknowledged

    eventually(has_everything, 60, "the new member has everything")


# Upkeep


def test_defragmentation_gives_free_pages_back(etcd: Etcd) -> None:
    revision = etcd.ask("fill", user="one", prefix="/one/fill/", count=120, size=100_000)
    compacted = {"revision": revision, "physical": True}
    answer = etcd.ask("call", path="/v3/kv/compaction", body=compacted, user="root")
    # The second, where the first member took too long over it and the next one was asked.
    assert answer["status"] == 200 or "has been compacted" in answer["error"], answer

    def free() -> bool:
        # Each member frees its pages by itself, and counts them when it writes next.
        etcd.call("/v3/kv/put", PUT, user="one")
        return all(used < size / 2 for size, used in etcd.sizes())

    eventually(free, 60, "pages are free everywhere")
    log = etcd.run_now("defragment")
    sizes = [line.split() for line in log.splitlines() if "bytes before" in line]
    assert len(sizes) == len(MEMBERS), log
    for words in sizes:
        before, after = int(words[2]), int(words[5])
        assert after < before / 2, log
    for member in MEMBERS:
        back(etcd, member)


# Passwords


@contextlib.contextmanager
def writing_as(etcd: Etcd, credentials: list[str], prefix: str) -> Iterator[list[dict[str, Any]]]:
    """Write with these credentials, from a pod that no rotation replaces, until the block is left;
    what each two seconds brought.
    """
    other = etcd.inside("other")
    answers: list[dict[str, Any]] = []
    ended = threading.Event()

    def write() -> None:
        for number in itertools.count():
            below = f"{prefix}{number}/"
            answers.append(
                other.ask(
                    "write",
                    module=MODULE,
                    endpoints=ENDPOINTS,
                    user=credentials,
                    prefix=below,
                    seconds=2,
                )
            )
            if ended.is_set():
                return

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(write)
        try:
            yield answers
        finally:
            ended.set()
        running.result()


def log_in_refused(etcd: Etcd, credentials: list[str]) -> None:
    name, password = credentials
    request = {"url": f"{ENDPOINTS[0]}/v3/auth/authenticate",
               "body": {"name": name, "password": password}}  # fmt: skip
    is_refused(etcd, request, "invalid user ID or password")


def test_passwords_are_replaced_while_clients_go_on(etcd: Etcd, record: Record) -> None:
    former = {user: etcd.credentials(user) for user in ("one", "two", "root")}
    etcd.generation += 1
    with writing_as(etcd, former["one"], "/one/rotated/") as answers:
        update = etcd.stack.up(generation=etcd.generation)
    record.note("etcd, passwords replaced", seconds_of_the_update=round(update.seconds, 1))
    # Members roll meanwhile, so a write may fail, but for no other reason.
    failures = [failure for answer in answers for failure in answer["failures"]]
    assert not [text for text in failures if re.search("invalid user|permission denied", text)]
    assert answers[-1]["acknowledged"], answers[-1]
    assert not [name for name in update.changed if name.endswith("::other")]
    present = {user: etcd.credentials(user) for user in former}
    assert present["one"][0] == f"one-{etcd.generation}"
    etcd.call("/v3/kv/put", PUT, user="one")
    etcd.call("/v3/auth/user/list")
    # Root has one password at any time.
    log_in_refused(etcd, former["root"])

    etcd.stack.up(keep_former=False)
    for user in ("one", "two"):
        log_in_refused(etcd, former[user])
    etcd.call("/v3/kv/put", PUT, user="one")
    assert etcd.call("/v3/auth/user/list")["users"] == [
        present["one"][0],
        "root",
        present["two"][0],
    ]

    # What an operator made stays where a declared user goes.
    etcd.call("/v3/auth/user/add", {"name": "alice", "password": "swordfish"})
    etcd.stack.up(users=["one"])
    log_in_refused(etcd, present["two"])
    assert etcd.call("/v3/auth/user/list")["users"] == ["alice", present["one"][0], "root"]
    assert etcd.call("/v3/auth/role/list")["roles"] == ["dds/one", "root"]
    etcd.call("/v3/kv/put", PUT, user="one")


def test_a_snapshot_brings_back_a_cluster_that_is_gone(etcd: Etcd, record: Record) -> None:
    etcd.ask("write", user="one", prefix="/one/kept/", seconds=1)
    kept = set(etcd.ask("numbers", user="one", prefix="/one/kept/"))
    assert kept
    log = etcd.run_now("snapshot")
    (file,) = [word for word in log.split() if word.endswith(".db")][-1:]
    revision = int(etcd.call("/v3/maintenance/status")["header"]["revision"])
    loads(etcd.writing("/one/after/", 1))

    former = [etcd.credentials(user) for user in ("one", "root")]
    etcd.stack.up(gone="true")
    claims = etcd.kube.objects("v1", "PersistentVolumeClaim", etcd.namespace)
    eventually(
        lambda: (
            [
                claim["metadata"]["name"]
                for claim in etcd.kube.objects("v1", "PersistentVolumeClaim", etcd.namespace)
            ]
            == ["snapshots"]
        ),
        120,
        lambda: f"the members' volumes are gone: {[c['metadata']['name'] for c in claims]}",
    )
    # Of two passwords that root may have, the snapshot has the former one.
    etcd.generation += 1
    restored = etcd.stack.up(gone="false", restore=file, generation=etcd.generation)
    record.note("etcd, restored", seconds_of_the_update=round(restored.seconds, 1))

    eventually(
        lambda: set(etcd.ask("numbers", user="one", prefix="/one/kept/")) == kept,
        60,
        "everything from before the snapshot is there",
    )
    # What was written after the snapshot is lost; that is what a snapshot is.
    assert etcd.ask("numbers", user="one", prefix="/one/after/") == []
    # A fencing token from before is never given out again.
    put = etcd.call("/v3/kv/put", PUT, user="one")
    assert int(put["header"]["revision"]) > revision + 1_000_000
    is_refused(etcd, {"url": f"{ENDPOINTS[0]}/v3/kv/put", "body": PUT}, "user name is empty")
    for credentials in former:
        log_in_refused(etcd, credentials)
    assert etcd.all_members()


def loads(running: Exec) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(running.output(90))
    return answer


def ready(etcd: Etcd, member: str) -> bool:
    pod = etcd.kube.pod(etcd.namespace, member)
    return pod is not None and pod.ready


def back(etcd: Etcd, member: str, not_uid: str = "") -> Pod:
    return etcd.kube.ready_pod(etcd.namespace, member, BACK_SECONDS, not_uid=not_uid)


def evicted(etcd: Etcd, member: str) -> int:
    """Status of an eviction that is not carried out."""
    body = client.V1Eviction(
        metadata=client.V1ObjectMeta(name=member, namespace=etcd.namespace),
        delete_options=client.V1DeleteOptions(dry_run=["All"]),
    )
    try:
        etcd.kube.core.create_namespaced_pod_eviction(member, etcd.namespace, body, dry_run="All")
    except ApiException as error:
        return int(error.status)
    return 201
