"""A database's health decides its pod's readiness, never its life, and costs nobody time."""

import base64
import json
import statistics
import time
from typing import Any

from tests.live.support.adapters import PERIOD, Adapters
from tests.live.support.kube import now
from tests.live.support.waiting import eventually

PORT = 9104
MONITOR = "database-health"
# What passes between a probe's verdict and our seeing it at the API, on a busy machine.
SEEN_WITHIN = 8.0
_VISIT = "tests.live.in_pod.visit"
_ENOUGH = 9199
# As the monitor's user: of those who never say who they are the server keeps none for long.
_HOLD = f"""
import json, pathlib, pymysql, socket, sys
word = pathlib.Path("/etc/mysql-health-secret/password").read_text()
kept = [
    pymysql.connect(host="127.0.0.1", user="health", password=word)
    for _ in range(int(sys.argv[1]))
]
with socket.create_server(("127.0.0.1", {_ENOUGH})) as enough:
    enough.settimeout(120)
    enough.accept()
print(json.dumps({{"held": len(kept)}}))
"""
# Its own connections a user may end without any right.
_END_THE_OTHERS = """
import pathlib, pymysql
word = pathlib.Path("/etc/mysql-health-secret/password").read_text()
cursor = pymysql.connect(host="127.0.0.1", user="health", password=word).cursor()
cursor.execute("SELECT id FROM information_schema.processlist WHERE id <> connection_id()")
others = cursor.fetchall()
for (number,) in others:
    cursor.execute(f"KILL {number}")
print(len(others))
"""
_LET_GO = f"import socket; socket.create_connection(('127.0.0.1', {_ENOUGH})).close()"
_SOCKETS = "tests.live.in_pod.sockets"


def report(adapters: Adapters, address: str) -> dict[str, dict[str, object]]:
    """What the monitor found, by query."""
    answer = adapters.get(address, PORT, "/health")
    assert answer.get("status") == 200, answer
    return {state["query"]: state for state in json.loads(answer["body"])["queries"]}


def test_all_queries_are_healthy_and_their_age_is_shown(adapters: Adapters) -> None:
    pod = adapters.pod("database")

    def healthy() -> dict[str, dict[str, object]]:
        found = report(adapters, pod.address)
        assert all(state["healthy"] for state in found.values()), found
        return found

    found = eventually(healthy, 30, "every query is healthy")
    assert set(found) == {"answers", "connections", "replication-lag"}
    assert 0 < float(str(found["connections"]["value"])) < 80
    page = adapters.get(pod.address, PORT, "/")["body"]
    assert "s ago" in page
    assert "replication-lag" in page
    eventually(
        lambda: adapters.query("mysql_health_ready") == {MONITOR: 1.0}, 20, "Prometheus sees it"
    )


def test_a_connection_that_the_database_closed_makes_nothing_unhealthy(adapters: Adapters) -> None:
    pod = adapters.pod("database")

    def runs() -> dict[str, Any]:
        return {name: state["runs"] for name, state in report(adapters, pod.address).items()}

    before = runs()
    ended = adapters.kube.run(pod, MONITOR, ["python3", "-c", _END_THE_OTHERS])
    # Each query has a connection of its own.
    assert int(ended) == len(before)
    eventually(
        lambda: all(run["healthy"] >= before[name]["healthy"] + 2 for name, run in runs().items()),
        30,
        "each query was asked again",
    )
    assert {name: run["unhealthy"] for name, run in runs().items()} == {
        name: run["unhealthy"] for name, run in before.items()
    }


def test_database_down_the_pod_is_unready_within_two_periods_and_not_restarted(
    adapters: Adapters,
) -> None:
    """The proof of the row; the pages answer meanwhile as if nothing had happened."""
    pod = adapters.pod("database")
    client = adapters.client()
    before = [adapters.get(pod.address, PORT, "/")["seconds"] for _ in range(3)]
    with adapters.watched(pod) as readiness:
        with adapters.nodes.paused(pod, "database"):
            down = now()
            eventually(
                lambda: readiness.first(ready=False, since=down), 6 * PERIOD, "the pod is unready"
            )
            # Nobody waits for the database.
            during = [
                client.ask("get", module=_VISIT, host=pod.address, port=PORT, path=path)
                for path in ("/", "/health", "/metrics", "/live", "/")
            ]
            ready = adapters.get(pod.address, PORT, "/ready")
        unready = readiness.first(ready=False, since=down)
        assert unready is not None
        assert unready - down <= 2 * PERIOD + SEEN_WITHIN, f"unready after {unready - down:.1f} s"
        assert [answer["status"] for answer in during] == [200] * 5
        seconds = [answer["seconds"] for answer in during]
        assert statistics.median(seconds) < max(0.25, 10 * max(before)), (before, seconds)
        assert ready["status"] == 503
        assert "answers:" in ready["body"]
        page = during[0]["body"]
        assert "not ready" in page
        after = adapters.pod("database")
    assert after.uid == pod.uid
    assert after.restarts == pod.restarts


def test_the_querys_answer_decides(adapters: Adapters) -> None:
    """More connections than allowed: the database answers, and is not ready all the same."""
    pod = adapters.pod("database")
    with adapters.watched(pod) as readiness:

        def to_blame() -> str:
            found = report(adapters, pod.address)
            assert found["answers"]["healthy"], found
            assert not found["connections"]["healthy"], found
            return str(found["connections"]["reason"])

        def let_go() -> bool:
            # Fails until all are there and it listens.
            adapters.kube.run(pod, MONITOR, ["python3", "-c", _LET_GO])
            return True

        # 80 % of 40 are allowed.
        held = adapters.kube.start(pod, MONITOR, ["python3", "-c", _HOLD, "34"])
        reason = eventually(to_blame, 60, "only the connections are to blame")
        eventually(readiness.unready, 6 * PERIOD, "the pod is unready")
        eventually(let_go, 30, "they are let go")
        assert json.loads(held.output()) == {"held": 34}
    assert "is above 80" in reason
    after = adapters.pod("database")
    assert after.restarts == pod.restarts


def test_the_password_reaches_no_argument_environment_or_log(adapters: Adapters) -> None:
    pod = adapters.pod("database")
    secrets = [
        base64.b64decode(secret["data"]["password"]).decode()
        for secret in adapters.kube.objects("v1", "Secret", adapters.namespace)
        if secret["metadata"]["name"].startswith(MONITOR)
    ]
    assert len(secrets) == 1
    (password,) = secrets
    assert len(password) >= 16
    for container in (MONITOR, "database"):
        arguments, environment = adapters.process(pod, container)
        for text in (arguments, environment, adapters.kube.logs(pod, container)):
            assert password not in text
    for path in ("/", "/health", "/metrics", "/ready"):
        assert password not in adapters.get(pod.address, PORT, path)["body"]
    # The database has not seen it either: it was given the hash.
    config_maps = adapters.kube.objects("v1", "ConfigMap", adapters.namespace)
    assert config_maps
    assert password not in json.dumps(config_maps)
    # This one is the right one, and the only way in.
    script = (
        "import pymysql,sys\n"
        "pymysql.connect(host='127.0.0.1',user='health',password=sys.stdin.readline().strip())\n"
        "print('in')"
    )
    enter = ["python3", "-c", script]
    assert "in" in adapters.kube.start(pod, MONITOR, enter, password).output()
    refused = ["python3", "-c", script.replace("print", "raise SystemExit") + ""]
    wrong = adapters.kube.start(
        pod, MONITOR, ["sh", "-c", 'python3 -c "$0" 2>&1 || true', refused[2]], "wrong"
    ).output()
    assert "Access denied" in wrong


def test_adapter_paused_the_database_goes_on_and_the_pod_is_not_ready(adapters: Adapters) -> None:
    """Nobody knows how the database is, so nobody is sent to it; it is not restarted for that."""
    pod = adapters.pod("database")
    client = adapters.client()
    with adapters.watched(pod) as readiness:
        greeted = client.start("greetings", module=_SOCKETS, host=pod.address, port=3306, seconds=8)
        time.sleep(0.5)
        with adapters.nodes.paused(pod, MONITOR):
            eventually(readiness.unready, 30, "unready")
        adapters.pod("database")
        seen = json.loads(greeted.output())["outcomes"]
    assert set(seen) == {"greeted"}, seen
    assert adapters.pod("database").restarts == pod.restarts


def test_adapter_killed_the_database_goes_on_and_the_pod_is_ready_again(
    adapters: Adapters,
) -> None:
    pod = adapters.pod("database")
    client = adapters.client()
    greeted = client.start("greetings", module=_SOCKETS, host=pod.address, port=3306, seconds=5)
    time.sleep(0.5)
    adapters.nodes.kill(pod, MONITOR)

    def back() -> bool:
        seen = adapters.kube.pod(pod.namespace, pod.name)
        return bool(seen and seen.ready and seen.restarts[MONITOR] > pod.restarts[MONITOR])

    eventually(back, 90, "the monitor was started again and has found the database healthy")
    assert set(json.loads(greeted.output())["outcomes"]) == {"greeted"}
    after = adapters.pod("database")
    assert after.uid == pod.uid
    assert after.restarts["database"] == pod.restarts["database"]
