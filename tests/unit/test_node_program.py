"""What the node's program does when what it talks to breaks off, hangs or says what it should not."""

import http.client
import io
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.wire import RESET, answered, begun, chunked, raw_server, trickled
from toolchain.node.program import (
    __main__,
    addons,
    api,
    background,
    dns_relay,
    host,
    join,
    network,
    policies,
    policy_plugin,
)
from toolchain.node.program.supervisor import Supervisor

SECONDS = 60.0


def short(answer: bytes) -> str:
    """The end of what is sent is enough of a name."""
    return repr(answer[-20:])


def wait(true: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def ended(stop: threading.Event, name: str) -> None:
    """Nothing goes on with what a test had put in place."""
    stop.set()
    wait(lambda: all(thread.name != name for thread in threading.enumerate()))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(api, "PAUSE_SECONDS", 0.02)


# the API


class PlainApi(api.Api):
    """Without TLS and a credential; nothing is waited for longer than `most`."""

    def __init__(self, port: int, most: float = SECONDS) -> None:
        super().__init__(Path("/nonexistent"))
        self.port = port
        self.most = most
        self.asked: list[float] = []

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        self.asked.append(timeout)
        return http.client.HTTPConnection(  # type: ignore[return-value]
            "127.0.0.1", self.port, timeout=min(timeout, self.most)
        )


def listed(*names: str, version: str = "1") -> bytes:
    items = [{"metadata": {"name": name, "resourceVersion": version}} for name in names]
    return json.dumps({"items": items, "metadata": {"resourceVersion": version}}).encode()


ENDED = chunked(whole=True)


@pytest.mark.parametrize(
    "broken",
    [
        [answered(listed("old"), length=1000)],
        [answered(b"out of order")],
        [answered(b"null")],
        [answered(b"\xff")],
        [answered(b"no", status="503 Service Unavailable")],
        [b"what is this\r\n\r\n"],
        [[b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", RESET]],
        [answered(listed("old")), chunked(b'{"type": "ADDED", "object": nu', whole=False)],
        [answered(listed("old")), chunked(b'{"type": "ADDED", "object": null}\n', whole=True)],
        [answered(listed("old")), chunked(b"[" * 100_000 + b"\n", whole=True)],
    ],
)
def test_a_copy_goes_on_whatever_a_round_of_it_leads_to(broken: Any, stop: threading.Event) -> None:
    with raw_server(*broken, answered(listed("new")), ENDED) as server:
        copy = api.Informer(PlainApi(server.port), "/list", stop, lambda: None)
        wait(lambda: copy.get("", "new"))
        stop.set()


def test_a_copy_goes_on_after_an_error_of_who_is_told(stop: threading.Event) -> None:
    told = []

    def changed() -> None:
        told.append(1)
        if len(told) == 1:
            raise TypeError("first")

    with raw_server(answered(listed("a")), answered(listed("a")), ENDED) as server:
        api.Informer(PlainApi(server.port), "/list", stop, changed)
        wait(lambda: len(told) > 1)
        stop.set()


def test_a_watch_that_says_nothing_is_an_error_within_half_a_minute() -> None:
    over = threading.Event()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with raw_server([head, b"0\r\n\r\n"], between=lambda: wait(over.is_set)) as server:
        silent = PlainApi(server.port, most=0.2)
        with pytest.raises(OSError, match="timed out"):
            list(silent.watch("/list", "1"))
        over.set()
        wait(lambda: server.requests)
        (request,) = server.requests
    # The server itself ends a watch a little earlier.
    (bound,) = silent.asked
    assert f"timeoutSeconds={api.WATCH_SECONDS}&".encode() in request
    assert api.WATCH_SECONDS < bound <= 30


@pytest.mark.parametrize(
    "answer",
    [
        answered(b"{}", length=3),
        answered(b"", length=3),
        chunked(b"{}", whole=False),
        answered(b"x" * 1001),
        chunked(b"x" * 600, b"x" * 600, whole=True),
    ],
    ids=short,
)
def test_a_body_that_is_not_whole_or_too_much_is_an_error(answer: bytes) -> None:
    with raw_server(answer) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
        connection.request("GET", "/")
        with pytest.raises(OSError, match="the response"):
            api.whole(connection.getresponse(), 1000, SECONDS)
        connection.close()


@pytest.mark.parametrize(
    "answer", [answered(b"x" * 1000), chunked(b"x" * 500, b"x" * 500, whole=True)], ids=short
)
def test_a_whole_body_is_whole(answer: bytes) -> None:
    with raw_server(answer) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
        connection.request("GET", "/")
        assert api.whole(connection.getresponse(), 1000, SECONDS) == b"x" * 1000
        connection.close()


def test_a_body_that_trickles_has_an_end() -> None:
    pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", *[b"x"] * 100_000]
    with raw_server(pieces, between=lambda: time.sleep(0.01)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
        connection.request("GET", "/")
        with pytest.raises(OSError, match="not complete after"):
            api.whole(connection.getresponse(), 100_000, 0.2)
        connection.close()


def test_the_label_of_the_server_is_set_although_the_api_fails_once(stop: threading.Event) -> None:
    calls: list[str] = []

    class Failing(api.Api):
        def call(self, method: str, *_: Any, **__: Any) -> Any:
            calls.append(method)
            if calls.count("PATCH") == 1 and method == "PATCH":
                raise OSError("connection refused")
            return {}

    addons.label_server(Failing(Path("/nonexistent")), "node", stop)
    assert calls[-1] == "PATCH"
    assert calls.count("PATCH") == 2


# work beside the main line


def test_an_error_that_repeats_is_said_once_and_another_one_too(
    stop: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = iter([*[OSError("down")] * 5, TypeError("odd"), None])
    done = threading.Event()

    def work() -> None:
        error = next(errors)
        if error:
            raise error
        done.set()

    background.start("work", stop, work)
    assert done.wait(SECONDS)
    said = capsys.readouterr().out
    assert said.count("OSError: down") == 1
    assert said.count("TypeError: odd") == 1


def test_a_program_whose_log_cannot_be_opened_is_started_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolchain.node.program.supervisor.LONGEST_PAUSE", 0.05)
    logs, mark = tmp_path / "logs", tmp_path / "mark"
    supervisor = Supervisor(logs)
    supervisor.start("late", ["touch", str(mark)])
    time.sleep(0.1)
    assert not mark.exists()
    logs.mkdir()
    wait(mark.exists)
    supervisor.stop(["late"], SECONDS)


def test_one_log_that_cannot_be_limited_keeps_nobody_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolchain.node.program.supervisor.LOG_LIMIT", 3)
    for name in ("a.log", "z.log"):
        (tmp_path / name).write_text("much")
    (tmp_path / "m.log").symlink_to(tmp_path / "nowhere")
    Supervisor(tmp_path).limit_logs()
    assert (tmp_path / "a.log").read_text() == (tmp_path / "z.log").read_text() == ""


def test_a_fault_at_the_start_stops_in_order_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []

    def start(*_: object) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr(__main__, "_start", start)
    monkeypatch.setattr(__main__, "_stop", lambda _: stopped.append(True))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert __main__.main(["server"]) == 1
    assert stopped == [True]


def test_a_command_that_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="sleep 600: timed out after"):
        host.run("sleep", "600", check=False, seconds=0.1)
    monkeypatch.setattr(host, "COMMAND_SECONDS", 0.1)
    with pytest.raises(OSError, match="sleep 600: timed out after"):
        host.feed("text", "sleep", "600")


# joining


@pytest.mark.parametrize(
    "answer",
    [
        answered(b"hello"),
        answered(b"\xff\xfe"),
        answered(b"[" * 100_000),
        answered(b"[]"),
        answered(b'{"data": null}'),
        answered(b'{"data": {"kubeconfig": 1}}'),
        answered(b'{"data": {}}', length=100),
        answered(b" " * (2 << 20)),
        chunked(b'{"data": {}}', whole=False),
        b"nonsense\r\n\r\n",
    ],
    ids=short,
)
def test_who_answers_nonsense_is_not_the_server_yet(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(name: str, port: int, *, timeout: float, context: object) -> Any:  # noqa: ARG001
        return http.client.HTTPConnection(name, port, timeout=timeout)

    with raw_server(answer) as server:
        monkeypatch.setattr(http.client, "HTTPSConnection", plain)
        with pytest.raises((OSError, LookupError)):
            join.discover(f"https://127.0.0.1:{server.port}", "token")


# DNS


def closed(datagrams: socket.socket, streams: socket.socket, *threads: str) -> None:
    """Closes two sockets after the threads that wait for an arrival have had one and ended."""
    by_datagram(datagrams.getsockname()[1], answer=False)
    socket.create_connection(streams.getsockname()).close()
    wait(lambda: not {*threads} & {thread.name for thread in threading.enumerate()})
    datagrams.close()
    streams.close()


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A name server that answers every query with its bytes turned round."""
    over = threading.Event()
    streams = socket.create_server(("127.0.0.1", 0))
    port = streams.getsockname()[1]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", port))
    monkeypatch.setattr(dns_relay, "PORT", port)

    def receive() -> None:
        while not over.is_set():
            query, client = datagrams.recvfrom(100)
            datagrams.sendto(query[::-1], client)

    def accept() -> None:
        while not over.is_set():
            client, _ = streams.accept()
            with client:
                query = client.recv(100)
                client.sendall(query[:2] + query[:1:-1])

    for loop in (receive, accept):
        threading.Thread(target=loop, name=f"upstream {loop.__name__}", daemon=True).start()
    yield "127.0.0.1"
    over.set()
    closed(datagrams, streams, "upstream receive", "upstream accept")


class Unsteady(socket.socket):
    """What it is asked for fails the first time."""

    failed = False

    def _fail_once(self) -> None:
        if not self.failed:
            self.failed = True
            raise OSError("too many open files")

    def recvfrom(self, *given: Any) -> Any:
        self._fail_once()
        return super().recvfrom(*given)

    def accept(self) -> Any:
        self._fail_once()
        return super().accept()


@pytest.fixture
def relay(upstream: str, stop: threading.Event) -> Iterator[tuple[int, int]]:
    datagrams = Unsteady(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    streams = Unsteady(socket.AF_INET, socket.SOCK_STREAM)
    streams.bind(("127.0.0.1", 0))
    streams.listen(64)
    dns_relay.relay(datagrams, streams, [upstream], stop)
    yield datagrams.getsockname()[1], streams.getsockname()[1]
    stop.set()
    closed(datagrams, streams, "dns udp", "dns tcp")


def by_datagram(port: int, answer: bool = True) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(SECONDS)
        client.connect(("127.0.0.1", port))
        client.send(b"abc")
        return client.recv(100) if answer else b""


def by_stream(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
        client.sendall(b"\0\3abc")
        return b"".join(iter(lambda: client.recv(100), b""))


def test_queries_are_passed_on_after_an_error_as_well(relay: tuple[int, int]) -> None:
    for _ in range(2):
        assert by_datagram(relay[0]) == b"cba"
        assert by_stream(relay[1]) == b"\0\3cba"


def test_streams_take_no_places_of_datagrams(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(dns_relay, "SLOTS", 2)
    monkeypatch.setattr(dns_relay, "ANSWER_SECONDS", 2 * SECONDS)
    datagrams, streams = request.getfixturevalue("relay")
    with begun(streams, b"\xff\xff", count=4):
        assert [by_datagram(datagrams) for _ in range(10)] == [b"cba"] * 10


def test_clients_that_trickle_lose_their_places(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(dns_relay, "SLOTS", 2)
    monkeypatch.setattr(dns_relay, "ANSWER_SECONDS", 0.5)
    _, streams = request.getfixturevalue("relay")
    with begun(streams, b"\xff\xff", count=4) as clients:
        wait(lambda: trickled(clients) == 0)
    monkeypatch.setattr(dns_relay, "ANSWER_SECONDS", SECONDS)
    assert by_stream(streams) == b"\0\3cba"


# policies


class Lists:
    """What the API lists, in place of the copies."""

    def __init__(self) -> None:
        self.complete = threading.Event()
        self.complete.set()
        self.items: list[Mapping[str, Any]] = []

    def objects(self) -> list[Mapping[str, Any]]:
        return self.items


def pod(uid: str, **annotations: str) -> Mapping[str, Any]:
    return {
        "metadata": {
            "namespace": "n", "name": "web-0", "uid": uid,
            "annotations": {f"kubernetes.io/{k.replace('_', '.')}": v for k, v in annotations.items()},
        },
        "spec": {"nodeName": "node"},
    }  # fmt: skip


@pytest.fixture
def enforced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: threading.Event
) -> Iterator[tuple[policies.Policies, Lists, list[str]]]:
    fed: list[str] = []
    lists = {path: Lists() for path in ("/api/v1/pods", "others")}
    monkeypatch.setattr(policies, "SOCKET", tmp_path / "policy.sock")
    monkeypatch.setattr(policies, "feed", lambda text, *_: fed.append(text))
    monkeypatch.setattr(
        policies, "Informer", lambda _api, path, *_: lists.get(path, lists["others"])
    )
    monkeypatch.setattr(policies, "REPAIR_SECONDS", 0.05)
    yield policies.Policies(PlainApi(1), "node", stop), lists["/api/v1/pods"], fed
    ended(stop, "network policies")


def test_the_table_is_made_again_without_a_change(enforced: Any) -> None:
    _, _, fed = enforced
    wait(lambda: len(fed) > 3)


def add(uid: str) -> dict[str, str]:
    return {
        "command": "ADD", "namespace": "n", "name": "web-0", "sandbox": "1", "ip": "10.42.0.9",
        "uid": uid,
    }  # fmt: skip


def test_a_pod_with_the_name_of_the_one_before_waits_for_its_own_labels(
    enforced: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, pods, _ = enforced
    monkeypatch.setattr(policies, "COVER_SECONDS", 1.0)
    pods.items = [pod("old")]
    # The watch still shows the pod that was deleted.
    assert "not covered" in loop._handle(add("new"))
    monkeypatch.setattr(policies, "COVER_SECONDS", SECONDS)
    pods.items = [pod("new")]
    assert loop._handle(add("new")) == "covered"


def test_a_static_pod_is_known_by_the_uid_that_its_mirror_carries(enforced: Any) -> None:
    loop, pods, _ = enforced
    pods.items = [pod("in the API", config_mirror="of the file")]
    assert loop._handle(add("of the file")) == "covered"


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"[]\n", id="list"),
        pytest.param(b"\xff\n", id="no text"),
        pytest.param(b'{"command": "ADD"}\n', id="no pod"),
        pytest.param(b"[" * 70_000, id="too much"),
    ],
)
def test_a_request_that_is_none_is_said_and_has_no_answer(
    enforced: Any, request_: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(request_)
        enforced[0]._answer(theirs)
        try:
            answer = ours.recv(100)
        except ConnectionResetError:
            answer = b""
    assert answer == b""
    assert "a request of the CNI plugin failed" in capsys.readouterr().out


def test_the_plugin_says_which_pod_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, str]] = []

    def ask(message: dict[str, str]) -> str:
        asked.append(message)
        return "covered"

    result = {"prevResult": {"ips": [{"address": "10.42.0.9/24"}]}}
    monkeypatch.setattr(policy_plugin, "_request", ask)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(result)))
    monkeypatch.setenv("CNI_COMMAND", "ADD")
    monkeypatch.setenv("CNI_CONTAINERID", "1")
    monkeypatch.setenv(
        "CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=n;K8S_POD_NAME=web-0;K8S_POD_UID=new"
    )
    assert policy_plugin.main() == 0
    assert asked == [add("new")]
    assert json.loads(capsys.readouterr().out) == result["prevResult"]


def test_the_rules_that_keep_traffic_inside_are_made_again(
    monkeypatch: pytest.MonkeyPatch, stop: threading.Event
) -> None:
    made: list[bool] = []
    monkeypatch.setattr(network, "Informer", lambda *_: Lists())
    monkeypatch.setattr(network.Network, "_configure", lambda _: None)
    monkeypatch.setattr(network, "set_routes", lambda _: None)
    monkeypatch.setattr(network, "keep_inside", lambda: made.append(True))
    monkeypatch.setattr(network, "REPAIR_SECONDS", 0.02)
    network.Network(PlainApi(1), "node", "10.0.0.2", stop)
    wait(lambda: len(made) > 1)
    ended(stop, "network")
