"""The activator of functions: when it wakes, what it holds, when it lets go."""

import contextlib
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.support.function_image import Served, runtime
from tests.unit.support.wire import answered, begun, chunked, raw_server

ASLEEP = {"busy": 0, "idle_seconds": 100.0}


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The runtime's own modules, without the server that it runs in."""
    with runtime(monkeypatch, ("activator", "cluster", "logs", "waking")) as made:
        yield made


class Cluster:
    """One Deployment, and what its pods answer."""

    def __init__(self, modules: Any, replicas: int = 0, **limits: Any) -> None:
        self.modules = modules
        self.replicas = replicas
        self.version = 1
        self.orders: list[int] = []
        self.broken = ""
        self.lost_races = 0
        self.activities: dict[str, dict[str, Any] | None] = {}
        self.now = 1000.0
        self.out = io.StringIO()
        given = {"concurrency": 2, "held": 5, "idle_seconds": 10.0, **limits}
        self.waking = modules.waking.Waking(
            modules.waking.Limits(**given), self, self.activities.get,
            modules.logs.Log("shop", self.out), lambda: self.now,
        )  # fmt: skip

    def scale(self) -> Any:
        if self.broken:
            raise self.modules.cluster.ClusterError(self.broken)
        return self.modules.cluster.Scale(self.replicas, str(self.version))

    def order(self, replicas: int, seen: Any) -> bool:
        if self.lost_races or seen.version != str(self.version):
            self.lost_races = max(0, self.lost_races - 1)
            return False
        self.orders.append(replicas)
        self.replicas = replicas
        return True

    def pod(self, number: int = 0, **more: Any) -> Any:
        given = {"uid": f"u{number}", "name": f"shop-{number}", "address": f"10.0.0.{number}",
                 "leaving": False, **more}  # fmt: skip
        return self.modules.cluster.Pod(**given)

    def look(self, seconds: float = 2.0) -> None:
        self.now += seconds
        self.waking.reconcile()

    def waiting(self, pool: ThreadPoolExecutor, count: int = 1, seconds: float = 50.0) -> list[Any]:
        """Requests that wait for a place."""
        before = self.waking.held
        futures = [pool.submit(self.waking.take, seconds) for _ in range(count)]
        deadline = time.monotonic() + 10
        while self.waking.held < before + count and time.monotonic() < deadline:
            time.sleep(0.005)
        return futures


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as made:
        yield made


def test_a_request_wakes_it_and_gets_the_first_pod_that_answers(
    modules: Any, pool: ThreadPoolExecutor
) -> None:
    cluster = Cluster(modules)
    cluster.waking.update([])
    (request,) = cluster.waiting(pool)
    cluster.look()
    assert cluster.orders == [1]
    cluster.look()
    assert cluster.orders == [1], "it was ordered twice"
    cluster.waking.update([cluster.pod()])
    cluster.look()
    assert not request.done(), "the pod has not answered yet"
    cluster.activities["10.0.0.0"] = ASLEEP
    cluster.look(0.1)
    assert request.result(5).pod.name == "shop-0"
    assert "first pod ready" in cluster.out.getvalue()


def test_nothing_is_woken_before_the_pods_are_known(modules: Any, pool: ThreadPoolExecutor) -> None:
    cluster = Cluster(modules)
    (request,) = cluster.waiting(pool)
    cluster.look()
    assert cluster.orders == []
    cluster.activities["10.0.0.0"] = ASLEEP
    cluster.waking.update([cluster.pod()])
    cluster.look()
    request.result(5)


def test_what_others_have_ordered_is_not_taken_back(modules: Any, pool: ThreadPoolExecutor) -> None:
    cluster = Cluster(modules, replicas=3)
    cluster.waking.update([])
    (request,) = cluster.waiting(pool)
    cluster.look()
    assert cluster.orders == []
    cluster.replicas, cluster.lost_races = 0, 1
    cluster.look()
    assert cluster.orders == [], "somebody else was faster"
    cluster.look()
    assert cluster.orders == [1]
    cluster.activities["10.0.0.0"] = ASLEEP
    cluster.waking.update([cluster.pod()])
    cluster.look()
    request.result(5)


def test_a_pod_gets_no_more_than_it_may_and_the_others_wait(
    modules: Any, pool: ThreadPoolExecutor
) -> None:
    cluster = Cluster(modules, replicas=1)
    cluster.activities["10.0.0.0"] = ASLEEP
    cluster.waking.update([cluster.pod()])
    cluster.look()
    first, second = cluster.waking.take(0), cluster.waking.take(0)
    (third,) = cluster.waiting(pool)
    assert not third.done()
    cluster.waking.give(first)
    assert third.result(5) is second


def test_of_two_pods_the_one_with_less_is_taken(modules: Any) -> None:
    cluster = Cluster(modules, replicas=2)
    cluster.activities |= {"10.0.0.0": ASLEEP, "10.0.0.1": ASLEEP}
    cluster.waking.update([cluster.pod(0), cluster.pod(1)])
    cluster.look()
    assert {cluster.waking.take(0).pod.name for _ in range(2)} == {"shop-0", "shop-1"}


def test_too_many_are_not_held(modules: Any, pool: ThreadPoolExecutor) -> None:
    cluster = Cluster(modules, held=3, concurrency=4)
    cluster.waking.update([])
    held = cluster.waiting(pool, 3)
    with pytest.raises(modules.waking.FullError):
        cluster.waking.take(50)
    cluster.activities["10.0.0.0"] = ASLEEP
    cluster.waking.update([cluster.pod()])
    cluster.look()
    for request in held:
        request.result(5)


@pytest.mark.parametrize(
    ("pods", "broken", "said", "detail"),
    [
        ([{"reason": "ImagePullBackOff", "detail": "no such image"}], "", "ImagePullBackOff",
         "shop-0: ImagePullBackOff: no such image"),
        ([{}], "", "the pod is not ready yet", "shop-0"),
        ([{"leaving": True}], "", "there is no pod", ""),
        ([], "", "there is no pod", ""),
        ([], "403: forbidden", "the Kubernetes API failed", "403: forbidden"),
    ],
    ids=["image", "slow", "leaving", "none", "api"],
)  # fmt: skip
def test_who_waited_too_long_is_told_why(
    modules: Any, pods: list[dict[str, Any]], broken: str, said: str, detail: str,
    pool: ThreadPoolExecutor,
) -> None:  # fmt: skip
    cluster = Cluster(modules)
    cluster.broken = broken
    cluster.waking.update([cluster.pod(**one) for one in pods])
    (request,) = cluster.waiting(pool, seconds=30.0)
    cluster.look()
    cluster.now += 40
    cluster.waking.update([cluster.pod(**one) for one in pods])
    with cluster.waking._place:
        cluster.waking._place.notify_all()
    with pytest.raises(modules.waking.LateError) as late:
        request.result(5)
    assert (str(late.value), late.value.detail) == (said, detail)


def test_it_sleeps_when_its_pods_say_that_nobody_asked(modules: Any) -> None:
    cluster = Cluster(modules, replicas=2)
    cluster.activities |= {"10.0.0.0": ASLEEP, "10.0.0.1": {"busy": 0, "idle_seconds": 9.0}}
    cluster.waking.update([cluster.pod(0), cluster.pod(1)])
    cluster.look(20)
    assert cluster.orders == [], "one has worked for another activator a moment ago"
    cluster.activities["10.0.0.1"] = {"busy": 1, "idle_seconds": 100.0}
    cluster.look()
    assert cluster.orders == [], "one works"
    cluster.activities["10.0.0.1"] = ASLEEP
    cluster.look()
    assert cluster.orders == [0]


@pytest.mark.parametrize("what", ["waits", "works", "just did"])
def test_it_does_not_sleep_while_somebody_asks(
    modules: Any, what: str, pool: ThreadPoolExecutor
) -> None:
    cluster = Cluster(modules, replicas=1, concurrency=1)
    cluster.activities["10.0.0.0"] = ASLEEP
    cluster.waking.update([cluster.pod()])
    cluster.look()
    place = cluster.waking.take(0)
    waiting = cluster.waiting(pool) if what == "waits" else []
    if what == "just did":
        cluster.waking.give(place)
    cluster.look(5 if what == "just did" else 20)
    assert cluster.orders == []
    if what != "just did":
        cluster.waking.give(place)
    for one in waiting:
        cluster.waking.give(one.result(5))
    cluster.look(20)
    assert cluster.orders == [0]


@pytest.mark.parametrize("takes", [0.0, 3.0, 25.0], ids=["at once", "a while", "longer than idle"])
def test_slow_steady_traffic_keeps_it_awake(modules: Any, takes: float) -> None:
    cluster = Cluster(modules, replicas=1, idle_seconds=10.0)
    cluster.waking.update([cluster.pod()])
    asked = cluster.now

    def second(busy: int) -> None:
        # As a pod sees it: it is idle from the end of its last request on.
        idle = 0.0 if busy else cluster.now - asked
        cluster.activities["10.0.0.0"] = {"busy": busy, "idle_seconds": idle}
        cluster.look(1)

    second(0)
    for _ in range(10):
        place = cluster.waking.take(0)
        for _ in range(int(takes)):
            second(1)
        cluster.waking.give(place)
        asked = cluster.now
        for _ in range(9):
            second(0)
    assert cluster.orders == []
    for _ in range(3):
        second(0)
    assert cluster.orders == [0]


def test_a_silent_watch_is_noticed_before_who_waits_gives_up(
    modules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "namespace").write_text("shop")
    (tmp_path / "token").write_text("t")
    monkeypatch.setattr(modules.cluster.ssl, "create_default_context", lambda **_: None)
    for hold_seconds, watched in ((15, 5), (60, 15), (600, 60)):
        made = modules.cluster.Cluster("shop", "a=b", hold_seconds, tmp_path)
        assert made._watch_seconds == watched
        assert watched + modules.cluster._LATE_SECONDS < hold_seconds
    monkeypatch.setattr(modules.cluster, "_LATE_SECONDS", 0)
    made._watch_seconds = 0.2
    told: list[Any] = []
    silent = threading.Event()
    listed = answered(b'{"items": [], "metadata": {"resourceVersion": "7"}}')
    stream = [chunked(whole=False), b"never"]
    with raw_server(listed, stream, between=lambda: assert_set(silent)) as api:
        monkeypatch.setattr(
            made, "_connection",
            lambda seconds: http.client.HTTPConnection("127.0.0.1", api.port, timeout=seconds),
        )  # fmt: skip
        with pytest.raises(modules.cluster.ClusterError, match="timed out"):
            made.watch(told.append)
        silent.set()
    assert told == [[]]


def test_a_pod_that_never_starts_goes_when_nobody_waits_for_it_any_more(modules: Any) -> None:
    cluster = Cluster(modules, replicas=1)
    cluster.waking.update([cluster.pod()])
    cluster.look(20)
    assert cluster.orders == [0]


def test_a_pod_that_is_told_to_end_gets_no_more_and_another_is_woken(
    modules: Any, pool: ThreadPoolExecutor
) -> None:
    cluster = Cluster(modules, replicas=0)
    cluster.activities["10.0.0.0"] = ASLEEP
    cluster.waking.update([cluster.pod()])
    cluster.look()
    cluster.waking.update([cluster.pod(leaving=True)])
    (request,) = cluster.waiting(pool)
    cluster.look()
    assert cluster.orders == [1]
    cluster.activities["10.0.0.1"] = ASLEEP
    cluster.waking.update([cluster.pod(1)])
    cluster.look(0.1)
    assert request.result(5).pod.name == "shop-1"


def test_one_probe_without_an_answer_is_a_busy_pod_three_are_none(modules: Any) -> None:
    cluster = Cluster(modules, replicas=1)
    cluster.activities["10.0.0.0"] = ASLEEP
    cluster.waking.update([cluster.pod()])
    cluster.look()
    cluster.activities["10.0.0.0"] = None
    cluster.look()
    cluster.waking.give(cluster.waking.take(0))
    cluster.look()
    cluster.look()
    with pytest.raises(modules.waking.LateError):
        cluster.waking.take(0)


def test_why_a_pod_does_not_run_is_read_from_its_status(modules: Any) -> None:
    metadata = {"uid": "u", "name": "n"}

    def pod(**status: Any) -> Any:
        return modules.cluster.Pod.of({"metadata": metadata, "status": status})

    waiting = {"reason": "CrashLoopBackOff", "message": "back-off"}
    assert pod(containerStatuses=[{"state": {"waiting": waiting}}]).reason == "CrashLoopBackOff"
    assert pod(containerStatuses=[{"state": {"running": {}}}], podIP="10.1.1.1") == (
        modules.cluster.Pod("u", "n", "10.1.1.1", leaving=False)
    )
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                   "message": "0/2 nodes"}  # fmt: skip
    assert pod(conditions=[unscheduled]).detail == "0/2 nodes"
    assert pod(phase="Failed").leaving
    gone = {**metadata, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert modules.cluster.Pod.of({"metadata": gone}).leaving


# the proxy


class Upstream(BaseHTTPRequestHandler):
    """A function's pod: says what it got."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = [[key.lower(), value] for key, value in self.headers.items()]
        answer = json.dumps({"path": self.path, "body": body.decode(), "headers": headers})
        self.send_response(201, "Made")
        self.send_header("X-Own", "yes")
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: Any) -> None:
        pass


class Activated:
    """An activator before one pod that is ready."""

    def __init__(self, modules: Any, port: int, bodies: Any = None) -> None:
        self.cluster = Cluster(modules, replicas=1)
        self.cluster.activities["127.0.0.1"] = ASLEEP
        self.cluster.waking.update([self.cluster.pod(address="127.0.0.1")])
        self.cluster.look()
        settings = modules.activator.Settings(
            name="shop", deployment="shop-1", selector="a=b", concurrency=2, most_pods=3, held=5,
            hold_seconds=0.2, idle_seconds=10, timeout=20, port=port, health_port=0,
        )  # fmt: skip
        log = modules.logs.Log("shop", self.cluster.out)
        self.activator = modules.activator.Activator(self.cluster.waking, settings, log, bodies)
        self.served = Served(modules, self.activator)
        self.call = self.served.call

    @property
    def passed(self) -> int:
        """Requests that the pod has, once nothing changes any more."""
        until(lambda: self.cluster.waking.passed == 0, 2)
        return int(self.cluster.waking.passed)


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


Before = Callable[..., Activated]


@pytest.fixture
def before(modules: Any) -> Iterator[Before]:
    """Makes activators before a port, which run until the test ends."""
    made: list[Activated] = []

    def make(port: int, bodies: Any = None) -> Activated:
        made.append(Activated(modules, port, bodies))
        return made[-1]

    yield make
    for one in made:
        one.served.close()


@pytest.fixture
def activator(before: Before) -> Iterator[Activated]:
    """An activator before a pod that says what it got."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield before(server.server_port)
    server.shutdown()
    server.server_close()


OWN = ("x-request-id", "connection")
"""Headers that the activator sends for itself."""


@pytest.mark.parametrize(
    "target", ["/a%2Fb?c=1", "/%2e%2e/secret", "/a%3Fb", "/a?", "/a?q=what?", "/a//../b?x=%26#c"]
)
def test_a_request_is_handed_on_as_it_came(activator: Activated, target: str) -> None:
    head = (
        f"POST {target} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\nX-Two: 1\r\n"
        "X-Two: 2\r\nX_Under: 1\r\nContent-Type: text/plain\r\nConnection: close, X-Hop\r\n"
        "X-Hop: 1\r\nX-Name: größe\r\n\r\nhello"
    )
    with begun(activator.served.port, head.encode()) as (client,):
        answer = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    head, _, content = answer.partition("\r\n\r\n")
    got = json.loads(content)
    assert head.startswith("HTTP/1.1 201 Made\r\n")
    assert [line for line in ("X-Own: yes", "Set-Cookie: a=1", "Set-Cookie: b=2")
            if line not in head.split("\r\n")] == []  # fmt: skip
    assert (got["path"], got["body"]) == (target, "hello")
    (number,) = [value for key, value in got["headers"] if key == "x-request-id"]
    assert len(number) == 32
    assert [one for one in got["headers"] if one[0] not in OWN] == [
        ["host", "shop.example"], ["x-two", "1"], ["x-two", "2"], ["x_under", "1"],
        ["content-type", "text/plain"], ["x-name", "größe".encode().decode("latin-1")],
        ["content-length", "5"],
    ]  # fmt: skip
    assert activator.passed == 0, "its place was not given back"


def test_what_a_pod_did_not_answer_is_not_sent_again(before: Before) -> None:
    with raw_server(b"") as pod:
        made = before(pod.port)
        assert made.call(b"hello")[0] == 502
        assert len(pod.requests) == 1
    assert made.passed == 0
    # It must show that it is there before it gets another.
    with pytest.raises(Exception, match="not ready"):
        made.cluster.waking.take(0)


LONG = b"x" * 300_000
GET = b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "answer", [answered(b"half", length=8), answered(LONG, length=300_001),
               chunked(b"half", whole=False)],
    ids=["short", "long", "chunked"],
)  # fmt: skip
def test_an_answer_that_a_pod_breaks_off_is_seen_at_once(before: Before, answer: bytes) -> None:
    with raw_server(answer) as pod:
        made = before(pod.port)
        with begun(made.served.port, GET) as (client,):
            got = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := client.recv(65536):
                    got += piece
    short = got.startswith(b"HTTP/1.1 502")
    assert short == (len(answer) < 100 and b"Content-Length" in answer)
    assert short or not got.endswith(b"0\r\n\r\n")
    assert made.passed == 0


def test_what_a_pod_streams_is_passed_on_as_it_comes(before: Before) -> None:
    go = threading.Event()
    parts = [chunked(b"one\n", whole=False), b"4\r\ntwo\n\r\n0\r\n\r\n"]
    with raw_server(parts, between=lambda: assert_set(go)) as pod:
        made = before(pod.port)
        connection = http.client.HTTPConnection("127.0.0.1", made.served.port, timeout=30)
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.readline() == b"one\n"
        go.set()
        assert answer.read() == b"two\n"
        connection.close()
    assert made.passed == 0


def assert_set(event: threading.Event) -> None:
    assert event.wait(30)


def test_a_client_that_does_not_read_keeps_no_place(
    before: Before, modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than the system itself keeps for a client that does not read.
    monkeypatch.setattr(modules.activator, "_AT_ONCE_BYTES", 2**24)
    with raw_server(answered(b"x" * 2**23)) as pod:
        made = before(pod.port)
        with socket.socket() as client:
            client.connect(("127.0.0.1", made.served.port))
            client.sendall(GET)
            until(lambda: bool(pod.requests))
            assert made.passed == 0


def test_bodies_count_when_they_arrive(before: Before, modules: Any) -> None:
    head = b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 50\r\n\r\n" + b"x" * 49
    with raw_server(answered(b"done")) as pod:
        made = before(pod.port, modules.bodies.Bodies(300, slow_seconds=1000))
        with begun(made.served.port, head, 6):
            until(
                lambda: 'activator_held_bytes{function="shop"} 294' in made.activator.metrics_text()
            )
            status, headers, _ = made.call(b"x" * 7)
            assert (status, headers["retry-after"]) == (503, "1")
            assert made.call(b"yes")[0] == 200
    assert (
        'activator_refused_total{function="shop",reason="bytes"} 1' in made.activator.metrics_text()
    )


def test_long_bodies_are_refused(
    activator: Activated, modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules.bodies, "MOST_BYTES", 3)
    assert activator.call(b"four")[0] == 413
    assert activator.call(b"yes")[0] == 201


def test_slow_clients_stop_nobody(activator: Activated) -> None:
    head = b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 10\r\n\r\nx"
    with begun(activator.served.port, head, 60), begun(activator.served.port, head[:9], 60):
        assert activator.call(b"hello")[0] == 201


def test_without_a_pod_the_answer_says_why(activator: Activated) -> None:
    cluster = activator.cluster
    cluster.waking.update([])

    def time_passes() -> None:
        # Once somebody waits, who has looked at the clock then.
        until(lambda: cluster.waking.held > 0)
        time.sleep(0.1)
        while passing.is_set():
            cluster.now += 60
            cluster.waking.give(cluster_place(cluster))
            time.sleep(0.05)

    passing = threading.Event()
    passing.set()
    clock = threading.Thread(target=time_passes)
    clock.start()
    try:
        status, headers, content = activator.call(b"hello")
    finally:
        passing.clear()
        clock.join()
    assert (status, headers["retry-after"]) == (503, "1")
    assert "there is no pod" in json.loads(content)["error"]


def cluster_place(cluster: Cluster) -> Any:
    """A place that nobody has, to wake who waits."""
    return cluster.modules.waking.Place(cluster.pod(9))


def test_health_says_what_is_held(activator: Activated) -> None:
    port = activator.served.health_port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/activity")
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())) == (200, {"held": 0, "passed": 0})
    connection.close()


def test_a_watch_that_ends_at_once_is_begun_again_after_a_pause(
    modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DoneError(BaseException):
        """Enough."""

    now, lasts, paused = [0.0], [0.0, 0.25, 60.0, 0.0], []

    def watch(_: Any) -> None:
        if not lasts:
            raise DoneError
        now[0] += lasts.pop(0)

    def sleep(seconds: float) -> None:
        paused.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(
        modules.waking, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    )
    with pytest.raises(DoneError):
        modules.waking.follow(
            watch, Cluster(modules).waking, modules.logs.Log("shop", io.StringIO())
        )
    assert paused == [1.0, 0.75, 0.0, 1.0]
