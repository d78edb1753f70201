"""The compositions' smoke tests wait for what is there a moment later, and say what never came."""

import http.client
import itertools
import json
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import stacks
from stacks.scripts import (
    adapters_check,
    companions_check,
    election_check,
    events_check,
    experiments_check,
    functions_check,
    sharded_redis_check,
    sidecars_check,
)
from stacks.settings import Settings
from stacks.target import CLUSTER_STACK
from tests.unit.support.fake_http import Answer, answering
from toolchain.graph import Secret, build

AWAY = (503, "nobody is there")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes by the scripts' sleep alone, however slow the machine is, and TLS is left out.

    Threads that another test has left behind sleep as before.
    """
    passed = [0.0]
    script, sleep_really, monotonic_really = threading.get_ident(), time.sleep, time.monotonic

    def sleep(seconds: float) -> None:
        if threading.get_ident() == script:
            passed[0] += seconds
        else:
            sleep_really(seconds)

    def monotonic() -> float:
        return passed[0] if threading.get_ident() == script else monotonic_really()

    def plain(host: str, port: int, timeout: float, context: object) -> Any:
        del context
        return http.client.HTTPConnection(host, port, timeout=timeout)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", monotonic)
    monkeypatch.setattr(http.client, "HTTPSConnection", plain)
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: None)


def test_no_other_thread_passes_the_scripts_time() -> None:
    before = time.monotonic()
    other = threading.Thread(target=time.sleep, args=(0.01,))
    other.start()
    other.join()
    assert time.monotonic() == before
    time.sleep(1)
    assert time.monotonic() == before + 1


def given(monkeypatch: pytest.MonkeyPatch, **plan: Any) -> None:
    monkeypatch.setenv("PLAN", json.dumps(plan))


# companions


def hits() -> list[Answer]:
    return [(200, {"hits": 7 + number}) for number in range(companions_check.HITS + 1)]


def processes(*left_out: str) -> tuple[int, Any]:
    names = [name for name in companions_check.PROGRAMS if name not in left_out]
    return 200, {"processes": [{"command": name} for name in names]}


def metrics(requests: int) -> tuple[int, str]:
    return 200, f'twemproxy_server_requests_total{{server="a"}} {requests}\n'


Asked = tuple[list[Answer], list[Answer], list[Answer]]


@pytest.fixture
def companions(monkeypatch: pytest.MonkeyPatch) -> Callable[[Asked], None]:
    def run(asked: Asked) -> None:
        counted, listed, exported = asked
        with (
            answering({"/hits/smoke-test": counted}) as https,
            answering({"/topz.json": listed}) as topz,
            answering({"/metrics": exported}) as exporter,
        ):
            monkeypatch.setattr(companions_check, "TOPZ_PORT", int(topz.partition(":")[2]))
            given(monkeypatch, endpoint=https, ca=None, metrics=exporter)
            companions_check.main()

    return run


@pytest.mark.parametrize(
    "asked",
    [
        (hits(), [processes()], [metrics(0), metrics(19), metrics(20)]),
        (hits(), [processes()], [(200, ""), metrics(20)]),
        (hits(), [processes("nginx"), processes()], [metrics(20)]),
        ([*hits()[:3], AWAY, *hits()[3:]], [processes()], [metrics(20)]),
        # The hit that got no answer was counted.
        ([*hits()[:3], AWAY, *hits()[4:], (200, {"hits": 28})], [processes()], [metrics(20)]),
    ],
    ids=["counters", "no counters", "a program", "another pod", "counted twice"],
)
def test_companions_waits_for_counters_programs_and_every_pod(
    companions: Callable[[Asked], None], asked: Asked
) -> None:
    companions(asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((hits(), [processes()], [metrics(19)]), "metrics know of 19 requests"),
        ((hits(), [processes("nginx")], [metrics(20)]), "lists no nginx"),
        (([*hits()[:-1], (200, {"hits": 28})], [processes()], [metrics(20)]), "counted as 21"),
        (([*hits()[:-1], (200, {"hits": 26})], [processes()], [metrics(20)]), "counted as 19"),
    ],
    ids=["counters", "a program", "one too many", "one too few"],
)
def test_companions_says_what_never_came(
    companions: Callable[[Asked], None], asked: Asked, said: str
) -> None:
    with pytest.raises(SystemExit, match=said):
        companions(asked)


# sidecars

READY: dict[str, list[Answer]] = {
    "/config": [(200, {"files": {"settings.json": "greeting"}})],
    "/topz.json": [(200, {"processes": ["legacy.py"]})],
}
NOT_YET: dict[str, list[Answer]] = {
    "/config": [(200, {"files": {}}), AWAY],
    "/topz.json": [(200, {"processes": []}), AWAY],
}


@pytest.fixture
def sidecars(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, list[Answer]]], None]:
    def legacy(headers: Any) -> tuple[int, Any]:
        return 200, {"headers": {"x-forwarded-proto": "https", "host": headers["Host"]}}

    def run(asked: dict[str, list[Answer]]) -> None:
        moved: list[Answer] = []
        with (
            answering({"/": [AWAY, legacy], **asked}) as https,
            answering({"/a": moved}) as redirect,
            answering(asked) as topz,
        ):
            moved += [AWAY, (308, f"https://{https}/a?b=c")]
            given(
                monkeypatch,
                endpoint=https,
                ca=None,
                serial="1",
                redirect_port=int(redirect.partition(":")[2]),
                topz_port=int(topz.partition(":")[2]),
                application_port=1,
            )
            monkeypatch.setattr(sidecars_check, "wait_for_serial", lambda *_: None)
            sidecars_check.main()

    return run


def test_sidecars_waits_for_files_processes_and_every_port(
    sidecars: Callable[[dict[str, list[Answer]]], None],
) -> None:
    sidecars({path: [*NOT_YET[path], *answers] for path, answers in READY.items()})


def test_sidecars_says_what_never_came(
    sidecars: Callable[[dict[str, list[Answer]]], None],
) -> None:
    with pytest.raises(SystemExit, match=r"FAILED: the application's files are \{\}$"):
        sidecars({**READY, "/config": [(200, {"files": {}})]})


# functions


def painted(name: str, color: str) -> Answer:
    def answer(headers: Any) -> tuple[int, Any]:
        order = {"name": name, "color": color}
        return 200, {"painted": order, "request_id": headers["X-Request-Id"]}

    return answer


@pytest.mark.parametrize("bad", [AWAY, (502, "no JSON"), (200, "cut sh")])
def test_functions_asks_again_until_somebody_judges_the_order(
    monkeypatch: pytest.MonkeyPatch, bad: Answer
) -> None:
    good = [painted("foo", "blue"), bad, painted("a", "red")]
    with (
        answering({"/": [bad, bad, (422, {"error": "missing: color"})]}) as api,
        answering({"/": [bad, bad, *good]}) as defaults,
    ):
        monkeypatch.setenv("API", api)
        monkeypatch.setenv("DEFAULTS", defaults)
        functions_check.main()


def test_functions_says_what_it_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering({"/": [AWAY]}) as api:
        monkeypatch.setenv("API", api)
        with pytest.raises(SystemExit, match="does not answer: 503 b'nobody is there'"):
            functions_check.main()


# election


@pytest.mark.parametrize("bad", [AWAY, (502, "no JSON"), (200, "cut sh")])
def test_election_asks_again_whoever_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, bad: Answer
) -> None:
    leads: tuple[int, Any] = (200, {"identity": "a", "leading": True, "token": 4})
    values = itertools.count()

    # An answer that comes too late on a busy machine is lost.
    def counted(_: object) -> tuple[int, Any]:
        return 200, {"value": next(values)}

    claims: list[Answer] = [bad, (200, {"value": 0}), bad, (409, {"error": "older"})]
    with (
        answering({"/": [bad, leads]}) as ticker,
        answering(
            {
                "/counters/ticks": [bad, counted, bad, counted],
                "/counters/ticks-check/claim": claims,
            }
        ) as store,
    ):
        given(
            monkeypatch,
            ticker=ticker,
            replicas=1,
            store=store,
            counter="ticks",
            fenced=True,
            ttl_seconds=1,
        )
        election_check.main()


# events


@pytest.fixture
def signup(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Answer], list[Any]], None]:
    def run(inbox: list[Answer], traces: list[Any]) -> None:
        def trace(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
            found = traces.pop(0) if len(traces) > 1 else traces[0]
            return subprocess.CompletedProcess([], 0, json.dumps(found), "")

        monkeypatch.setattr(subprocess, "run", trace)
        with answering({"/": [(202, {"id": "e1"})], "/inbox": inbox}) as front:
            monkeypatch.setenv("SIGNUP", f"http://{front}/")
            monkeypatch.setenv("LOGINS", f"http://{front}/")
            monkeypatch.setenv("INBOX", f"http://{front}/inbox")
            monkeypatch.setenv("WAYS", json.dumps(["a", "b"]))
            events_check.main()

    return run


@pytest.fixture
def _user(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mark:
        hex = "0" * 32

    monkeypatch.setattr(uuid, "uuid4", Mark)


SENT = {"body": "to smoke-test-000000000000"}
OVER = {"done": ["a", "b"], "waiting": [], "dead": []}


@pytest.mark.usefixtures("_user")
@pytest.mark.parametrize(
    ("inbox", "traces"),
    [
        ([(200, {"messages": []}), (200, {"messages": [SENT]})], [OVER]),
        ([AWAY, (200, "cut"), (200, {"messages": [SENT]})], [OVER]),
        ([(200, {"messages": [SENT]})], [{**OVER, "done": ["a"]}, OVER]),
        ([(200, {"messages": [SENT]})], [{**OVER, "waiting": ["c"]}, OVER]),
    ],
    ids=["message", "inbox", "way", "waiting"],
)
def test_events_waits_for_the_message_and_every_way(
    signup: Callable[[list[Answer], list[Any]], None], inbox: list[Answer], traces: list[Any]
) -> None:
    signup(inbox, traces)


@pytest.mark.usefixtures("_user")
@pytest.mark.parametrize(
    ("inbox", "traces", "said"),
    [
        ([(200, {"messages": []})], [OVER], "0 messages were sent, not 1"),
        ([(200, {"messages": [SENT, SENT]})], [OVER], "2 messages were sent, not 1"),
        ([(200, {"messages": [SENT]})], [{**OVER, "done": ["a"]}], r"it went \['a'\], not"),
        ([(200, {"messages": [SENT]})], [{**OVER, "dead": ["b"]}], "is a dead letter"),
    ],
    ids=["no message", "two", "way", "dead"],
)
def test_events_says_what_never_came(
    signup: Callable[[list[Answer], list[Any]], None],
    inbox: list[Answer],
    traces: list[Any],
    said: str,
) -> None:
    with pytest.raises(SystemExit, match=said):
        signup(inbox, traces)


# experiments


def test_experiments_asks_again_for_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def page(headers: Any) -> tuple[int, str]:
        number = int(headers["X-User-Id"].partition("-")[2])
        chosen = "experiment" if number % 10 == 0 else "control"
        return 200, headers.get("X-Arm", chosen)

    monkeypatch.setattr(experiments_check, "check_database", lambda *_: None)
    monkeypatch.setattr(experiments_check, "USERS", 100)
    # After both arms have answered once, one of their pods is silent for a while.
    with answering({"/": [AWAY, page, page, page, AWAY, AWAY, page]}) as splitter:
        given(monkeypatch, splitter=splitter, database="", policy="salt", percent=10)
        experiments_check.main()


# adapters


def test_adapters_asks_again_when_an_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: Any, **__: Any) -> Any:
        raise http.client.IncompleteRead(b"")

    monkeypatch.setattr(urllib.request, "urlopen", cut)
    assert adapters_check.get("http://127.0.0.1/") is None


# sharded redis


def test_sharded_redis_asks_again_for_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = {"shards": [{"name": "a", "entry": "one"}], "statistics": "127.0.0.1:1"}
    # Nobody listens, the answer is cut short, the shard is not there yet, an old count.
    answers: list[Any] = [
        ConnectionRefusedError(), b'{"redis": {', b'{"redis": {}}',
        b'{"redis": {"one": {"requests": 5}}}', b'{"redis": {"one": {"requests": 8}}}',
    ]  # fmt: skip

    class Connection:
        def __enter__(self) -> "Connection":
            answer = answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            self.parts = [answer, b""]
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def recv(self, _: int) -> Any:
            return self.parts.pop(0)

    def connected(*_: Any, **__: Any) -> Connection:
        return Connection()

    monkeypatch.setattr(socket, "create_connection", connected)
    later = time.monotonic() + 60
    found = sharded_redis_check.check_statistics(plan, Counter(a=5), Counter(a=1), later)
    assert list(found) == []
    assert not answers


# all of them

SCRIPTS: dict[str, list[tuple[str, ModuleType]]] = {
    "ambassadors": [("sharded-redis-check", sharded_redis_check)],
    "companions": [("companions-check", companions_check)],
    "election": [("election-check", election_check)],
    "experiments": [("experiments-check", experiments_check)],
    "functions": [("functions-check", functions_check), ("events-check", events_check)],
    "sidecars": [("sidecars-check", sidecars_check)],
}


def deadlines(stack: str, **config: str) -> dict[str, float]:
    """Seconds that each check of a composition has."""
    graph = build(
        lambda: stacks.COMPOSITIONS[stack].deploy(Settings.load()),
        stack=stack,
        config={f"dds:{key}": value for key, value in config.items()},
        references={CLUSTER_STACK: {"kubeconfig": Secret("{}"), "registry": "localhost:5000"}},
    )
    return {
        node.name: node.inputs["spec"]["activeDeadlineSeconds"]
        for node in graph.all("Job")
        if node.name.endswith("-check")
    }


@pytest.mark.parametrize("stack", SCRIPTS)
def test_a_script_waits_nearly_as_long_as_its_check_and_then_says_why(stack: str) -> None:
    found = deadlines(stack)
    assert set(found) == {name for name, _ in SCRIPTS[stack]}
    waited = 4 * 5 if stack == "election" else 0
    for name, script in SCRIPTS[stack]:
        left = found[name] - script.SECONDS - waited
        assert 20 <= left <= 30, (name, left)


@pytest.mark.parametrize(
    ("stack", "config"),
    [("adapters", {"scrape_interval_seconds": "300"}), ("election", {"ttl_seconds": "3600"})],
)
def test_a_check_has_more_time_where_what_it_waits_for_takes_longer(
    stack: str, config: dict[str, str]
) -> None:
    (seconds,) = deadlines(stack, **config).values()
    (given,) = config.values()
    assert seconds >= 4 * int(given) + 120
