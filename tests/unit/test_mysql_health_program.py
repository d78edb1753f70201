"""The database's monitor: what it finds healthy, and that nobody waits for the database."""

import dataclasses
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.support.companions import program

health = program("mysql_health")
web = program("web")

ASKED = web.Request("/", {}, {})


def settings(*queries: Any, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "host": "127.0.0.1", "port": 3306, "user": "health", "password_file": "/nowhere",
        "flavour": "mariadb", "database": None, "listen_port": 0, "interval_seconds": 5.0,
        "deadline_seconds": 30.0, "queries": queries or (query(),),
    }  # fmt: skip
    return health.Settings(**{**values, **changes})


# For what asks by itself; too short for who asks himself and is kept from looking at the answer.
OFTEN = {"interval_seconds": 0.05, "deadline_seconds": 0.1}


def query(**changes: Any) -> Any:
    return health.Query(**{"name": "q", "sql": "SELECT 1", **changes})


class Database:
    """Answers what it is told to; counts its connections."""

    def __init__(self, row: Any = None) -> None:
        self.row: Any = {"n": 1} if row is None else row
        # What the next answers are in its place.
        self.first: list[Any] = []
        self.connections = 0
        self.closed = 0
        self.held = threading.Event()
        self.held.set()

    def __call__(self, _: Any) -> "Database":
        self.connections += 1
        return self

    def first_row(self, _: str) -> Mapping[str, Any] | None:
        self.held.wait(30)
        row = self.first.pop(0) if self.first else self.row
        if isinstance(row, Exception):
            raise row
        found: Mapping[str, Any] | None = None if row == "none" else row
        return found

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    ("changes", "row", "seconds", "value", "reason"),
    [
        ({}, {"n": 1}, 0.0, 1.0, ""),
        ({}, {"n": "text"}, 0.0, None, ""),
        ({"at_most": 5}, {"n": 5}, 0.0, 5.0, ""),
        ({"at_most": 5}, {"n": 5.5}, 0.0, 5.5, "5.5 is above 5"),
        ({"at_least": 2}, {"n": 1}, 0.0, 1.0, "1 is below 2"),
        ({"at_most": 5}, {"n": None}, 0.0, None, "n is None, not a number"),
        ({"at_most": 5}, {"n": float("nan")}, 0.0, None, "n is nan, not a number"),
        ({"at_least": 5}, {"n": "Infinity"}, 0.0, None, "n is 'Infinity', not a number"),
        ({}, {"n": "NaN"}, 0.0, None, ""),
        ({"at_most": 5}, {"n": 10**400}, 0.0, None, "not a number"),
        ({"at_most": 1234567}, {"n": 1234568.5}, 0.0, 1234568.5, "1234568.5 is above 1234567"),
        ({"column": "m", "at_most": 5}, {"n": 9, "m": 1}, 0.0, 1.0, ""),
        ({"column": "m"}, {"n": 9}, 0.0, None, "no column m"),
        ({}, None, 0.0, None, "no rows"),
        ({"empty_is_healthy": True}, None, 0.0, None, ""),
        ({"at_most_ms": 100}, {"n": 1}, 0.2, None, "took 200 ms, the maximum is 100"),
    ],
)
def test_an_answer_is_judged(
    changes: dict[str, Any], row: Any, seconds: float, value: float | None, reason: str
) -> None:
    found, said = health.judged(query(**changes), row, seconds)
    assert found == value
    assert reason in said
    assert bool(reason) == bool(said)


def test_ready_only_when_asked_and_only_required_queries_count() -> None:
    database = Database()
    both = health.Health(
        settings(query(), query(name="extra", at_most=0, required=False)), database
    )
    assert both.ready(ASKED).status == 503, "has not run yet"
    for watch in both.watches:
        watch.run_once()
    assert both.ready(ASKED).status == 200
    report = json.loads(both.health(ASKED).body)
    assert [state["healthy"] for state in report["queries"]] == [True, False]
    assert report["ready"] is True


def test_an_error_is_a_reason_and_the_next_run_connects_anew() -> None:
    database = Database(OSError("gone <b>away</b>"))
    one = health.Health(settings(), database)
    (watch,) = one.watches
    watch.run_once()
    answer = one.ready(ASKED)
    assert answer.status == 503
    assert "q: OSError: gone" in answer.body
    assert "&lt;b&gt;" in one.page(ASKED).body
    assert database.closed == 1
    database.row = {"n": 1}
    watch.run_once()
    assert database.connections == 2
    assert one.ready(ASKED).status == 200
    watch.run_once()
    assert database.connections == 2, "a connection that works is kept"


def test_a_kept_connection_that_the_server_closed_says_nothing_of_the_database() -> None:
    database = Database()
    one = health.Health(settings(), database)
    (watch,) = one.watches
    watch.run_once()
    database.first = [OSError("(2013, 'Lost connection to server during query')")]
    watch.run_once()
    assert one.ready(ASKED).status == 200
    assert watch.runs == {"healthy": 2, "unhealthy": 0}
    assert (database.connections, database.closed) == (2, 1)
    # But on the new one an error is an answer, and is not asked for again and again.
    database.first = [OSError("lost")] * 2
    watch.run_once()
    assert "q: OSError: lost" in one.ready(ASKED).body
    assert (database.connections, database.closed) == (3, 3)


def test_a_deadline_that_has_gone_by_is_not_waited_for_again() -> None:
    database = Database()
    one = health.Health(settings(deadline_seconds=0.0), database)
    (watch,) = one.watches
    watch.run_once()
    database.first = [TimeoutError("timed out")]
    watch.run_once()
    assert not watch.state()["healthy"]
    assert database.connections == 1


def test_a_database_that_hangs_makes_nobody_wait_and_is_unhealthy_after_the_deadline() -> None:
    database = Database()
    one = health.Health(settings(**OFTEN), database)
    one.start()
    deadline = time.monotonic() + 10
    while one.ready(ASKED).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    database.held.clear()
    try:
        while "has been running for" not in one.ready(ASKED).body:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        began = time.monotonic()
        answer = one.ready(ASKED)
        pages = [one.page(ASKED).body, one.metrics(ASKED).body, one.health(ASKED).body]
        # All of them while the one query that is under way answers nothing.
        assert time.monotonic() - began < 5
        assert answer.status == 503
        assert "s ago" in pages[0]
        assert 'mysql_health_query_healthy{query="q"} 0' in pages[1]
        assert "mysql_health_ready 0" in pages[1]
    finally:
        database.held.set()


def test_what_is_too_old_is_unhealthy() -> None:
    one = health.Health(settings(), Database())
    (watch,) = one.watches
    watch.run_once()
    assert one.ready(ASKED).status == 200
    # As if the interval and two deadlines had gone by, and nobody had asked again.
    watch._found = dataclasses.replace(watch._found, at=watch._found.at - 65)
    assert "s old" in one.ready(ASKED).body


def test_one_slow_query_does_not_hold_up_the_others() -> None:
    slow, fast = Database(), Database()
    slow.held.clear()
    both = health.Health(settings(query(name="slow"), query(name="fast"), **OFTEN), fast)
    both.watches[0]._connect = slow
    both.start()
    try:
        deadline = time.monotonic() + 10
        while both.watches[1].state()["runs"]["healthy"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        states = {state["query"]: state for state in both.report()["queries"]}
        assert states["slow"]["runs"] == {"healthy": 0, "unhealthy": 0}
        assert not states["slow"]["healthy"]
    finally:
        slow.held.set()


def test_the_server_gives_a_query_up_by_itself() -> None:
    assert health.LIMITS["mariadb"](1.5) == "SET SESSION max_statement_time=1.5"
    assert health.LIMITS["mysql"](1.5) == "SET SESSION max_execution_time=1500"


def test_an_unknown_key_of_the_configuration_is_an_error(tmp_path: Any) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"queries": [{"name": "q", "sql": "x", "liveness": True}]}))
    with pytest.raises(TypeError, match="liveness"):
        health.Settings.read(str(file))
