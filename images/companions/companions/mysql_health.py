"""Health of a MySQL or MariaDB server from the results of named queries.

Each query runs periodically in the background, on its own connection; pages, probes and scrapes
show the last result and its age. So a slow database slows nothing down here, and a result that is
too old counts as unhealthy.

GET /ready     200 while every required query is healthy, else 503 with the reasons
GET /live      200 as long as this program runs, independent of the database
GET /          an HTML page
GET /health    JSON
GET /metrics   metrics for Prometheus

The only argument is a JSON file, see ``Settings``.
"""

import dataclasses
import html
import json
import math
import pathlib
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from companions import web, worker
from companions.metrics import CONTENT_TYPE, Family, Sample, exposition

# The server's own query timeout; the client's deadline alone would leave the query running there.
LIMITS = {
    "mariadb": lambda seconds: f"SET SESSION max_statement_time={seconds:g}",
    "mysql": lambda seconds: f"SET SESSION max_execution_time={int(seconds * 1000)}",
}
LONGEST_REASON = 500
# All digits of a number, and not 1.23457e+06.
_shown = "{:.15g}".format


@dataclasses.dataclass(frozen=True)
class Query:
    """One query, and which result is healthy."""

    name: str
    sql: str
    column: str | None = None
    """Column of the first row with the value. Defaults to the first column."""
    at_most: float | None = None
    at_least: float | None = None
    at_most_ms: float | None = None
    """Maximum duration in milliseconds."""
    required: bool = True
    """Whether readiness depends on it."""
    empty_is_healthy: bool = False
    """Whether a result without rows is healthy."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The configuration file."""

    host: str
    port: int
    user: str
    password_file: str
    flavour: str
    database: str | None
    listen_port: int
    interval_seconds: float
    deadline_seconds: float
    queries: tuple[Query, ...]

    @classmethod
    def read(cls, file: str) -> "Settings":
        """Read the file; an unknown key is an error."""
        given = json.loads(pathlib.Path(file).read_text())
        given["queries"] = tuple(Query(**query) for query in given["queries"])
        return cls(**given)


@dataclasses.dataclass(frozen=True)
class Found:
    """The result of one run of a query."""

    at: float
    """On the monotonic clock, at the end of the run."""
    healthy: bool
    reason: str
    value: float | None
    seconds: float


class Connection(Protocol):
    """The methods of a database connection that are used."""

    def first_row(self, sql: str) -> Mapping[str, Any] | None:
        """The first row of the result by column, if there is one."""

    def close(self) -> None:
        """Close it."""


class PyMySql:
    """A connection with PyMySQL; every operation has a deadline."""

    def __init__(self, settings: Settings) -> None:
        import pymysql  # noqa: PLC0415 (only where there is a database)
        import pymysql.cursors  # noqa: PLC0415

        self._connection = pymysql.connect(
            host=settings.host,
            port=settings.port,
            user=settings.user,
            # Read each time: the Secret may have changed.
            password=pathlib.Path(settings.password_file).read_text().rstrip("\n"),
            database=settings.database,
            connect_timeout=max(1, round(settings.deadline_seconds)),
            read_timeout=settings.deadline_seconds,
            write_timeout=settings.deadline_seconds,
            cursorclass=pymysql.cursors.DictCursor,
            autocommit=True,
            init_command=LIMITS[settings.flavour](settings.deadline_seconds),
        )

    def first_row(self, sql: str) -> Mapping[str, Any] | None:
        """The first row of the result."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            row: Mapping[str, Any] | None = cursor.fetchone()
            return row

    def close(self) -> None:
        """Close without the server."""
        self._connection._force_close()  # noqa: SLF001 (close() would send COM_QUIT)


def judged(query: Query, row: Mapping[str, Any] | None, seconds: float) -> tuple[float | None, str]:
    """The value of the result, and the reason why it is unhealthy; empty if it is healthy."""
    if query.at_most_ms is not None and seconds * 1000 > query.at_most_ms:
        return (
            None,
            f"took {seconds * 1000:.0f} ms, the maximum is {_shown(query.at_most_ms)}",
        )
    if row is None:
        return None, "" if query.empty_is_healthy else "the result has no rows"
    column = next(iter(row)) if query.column is None else query.column
    if column not in row:
        return None, f"the result has no column {column}"
    if query.at_most is None and query.at_least is None:
        return _number(row[column]), ""
    value = _number(row[column])
    if value is None:
        return None, f"{column} is {row[column]!r}, not a number"
    if query.at_most is not None and value > query.at_most:
        return value, f"{_shown(value)} is above {_shown(query.at_most)}"
    if query.at_least is not None and value < query.at_least:
        return value, f"{_shown(value)} is below {_shown(query.at_least)}"
    return value, ""


def _number(value: Any) -> float | None:
    """The value as a finite number: NaN would be within any bound."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


class Watch:
    """Runs one query and keeps its last result."""

    def __init__(self, query: Query, settings: Settings, connect: Any = PyMySql) -> None:
        self.query = query
        self._settings = settings
        self._connect = connect
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._found: Found | None = None
        self._running_since: float | None = None
        self._started = time.monotonic()
        self._since = self._started
        self.runs = {"healthy": 0, "unhealthy": 0}

    def loop(self) -> None:
        """Run the query once an interval, for ever."""
        while True:
            began = time.monotonic()
            self.run_once()
            time.sleep(max(0.05, self._settings.interval_seconds - (time.monotonic() - began)))

    def run_once(self) -> None:
        """Run the query once."""
        began = time.monotonic()
        with self._lock:
            self._running_since = began
        value = None
        try:
            row, seconds = self._row(began)
            value, reason = judged(self.query, row, seconds)
        except Exception as error:  # noqa: BLE001 (whatever the driver raises)
            seconds = time.monotonic() - began
            reason = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
            self._drop()
        now = time.monotonic()
        found = Found(now, not reason, reason, value, seconds)
        with self._lock:
            changed = self._found is None or self._found.healthy != found.healthy
            if changed:
                self._since = now
            self._found = found
            self._running_since = None
            self.runs["healthy" if found.healthy else "unhealthy"] += 1
        if changed:
            what = "is healthy" if found.healthy else f"is not healthy: {found.reason}"
            print(f"{self.query.name} {what}\n", end="", flush=True)

    def _row(self, began: float) -> tuple[Mapping[str, Any] | None, float]:
        """The first row, and how long the query took.

        The server may have closed an idle connection, although the database is healthy: a query
        that fails on it is retried once on a new one, unless the deadline has passed.
        """
        if self._connection is not None:
            try:
                return self._connection.first_row(self.query.sql), time.monotonic() - began
            except Exception:
                self._drop()
                if time.monotonic() - began >= self._settings.deadline_seconds:
                    raise
        self._connection = self._connect(self._settings)
        began = time.monotonic()
        return self._connection.first_row(self.query.sql), time.monotonic() - began

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception as error:  # noqa: BLE001 (it is dropped in any case)
                print(f"{self.query.name}: closing: {error}", flush=True)

    def state(self) -> dict[str, Any]:
        """The current state; a result that is too old is not healthy."""
        now = time.monotonic()
        with self._lock:
            found, running, since = self._found, self._running_since, self._since
        interval, deadline = self._settings.interval_seconds, self._settings.deadline_seconds
        healthy, reason = (
            (False, "has not run yet") if found is None else (found.healthy, found.reason)
        )
        if running is not None and now - running > deadline:
            healthy = False
            reason = f"has been running for {now - running:.1f} s"
        elif found is not None and now - found.at > interval + 2 * deadline:
            healthy = False
            reason = f"the last result is {now - found.at:.1f} s old"
        return {
            "query": self.query.name,
            "healthy": healthy,
            "required": self.query.required,
            "reason": reason,
            "value": None if found is None else found.value,
            "seconds": None if found is None else round(found.seconds, 6),
            "age_seconds": None if found is None else round(now - found.at, 3),
            "unchanged_seconds": round(now - since, 3),
            "runs": dict(self.runs),
        }


class Health:
    """All queries together."""

    def __init__(self, settings: Settings, connect: Any = PyMySql) -> None:
        self.settings = settings
        self.watches = [Watch(query, settings, connect) for query in settings.queries]

    def start(self) -> None:
        """Start to run the queries in the background."""
        for watch in self.watches:
            worker.start(watch.loop, watch.query.name)

    def report(self) -> dict[str, Any]:
        """The state of all queries."""
        states = [watch.state() for watch in self.watches]
        return {
            "ready": all(state["healthy"] for state in states if state["required"]),
            "database": f"{self.settings.host}:{self.settings.port}",
            "queries": states,
        }

    def ready(self, _: web.Request) -> web.Answer:
        """For the kubelet, which puts the reasons into the pod's events."""
        report = self.report()
        reasons = [
            f"{state['query']}: {state['reason']}"
            for state in report["queries"]
            if state["required"] and not state["healthy"]
        ]
        if reasons:
            return web.Answer("\n".join(reasons) + "\n", status=503)
        return web.Answer("ready\n")

    def health(self, _: web.Request) -> web.Answer:
        """As JSON; always 200, the state is in ``ready``."""
        return web.as_json(self.report())

    def metrics(self, _: web.Request) -> web.Answer:
        """The metrics for Prometheus."""
        report = self.report()
        states = report["queries"]

        def gauge(name: str, meaning: str, key: str) -> Family:
            samples = [
                Sample(float(state[key]), {"query": state["query"]})
                for state in states
                if state[key] is not None
            ]
            return Family(f"mysql_health_{name}", "gauge", meaning, samples)

        runs = [
            Sample(count, {"query": state["query"], "outcome": outcome})
            for state in states
            for outcome, count in state["runs"].items()
        ]
        families = [
            Family(
                "mysql_health_ready",
                "gauge",
                "1 while every required query is healthy.",
                [Sample(float(report["ready"]))],
            ),
            gauge("query_healthy", "1 while the query's result is healthy and fresh.", "healthy"),
            gauge("query_value", "The last value.", "value"),
            gauge("query_seconds", "How long the last run took.", "seconds"),
            gauge("query_age_seconds", "How long ago the last run ended.", "age_seconds"),
            Family("mysql_health_query_runs_total", "counter", "Runs by outcome.", runs),
        ]
        return web.Answer(exposition(families), CONTENT_TYPE)

    def page(self, _: web.Request) -> web.Answer:
        """As an HTML page."""
        report = self.report()
        rows = "".join(_row(state) for state in report["queries"])
        verdict = "ready" if report["ready"] else "not ready"
        return web.Answer(
            "<!doctype html><html lang='en'><meta charset='utf-8'>"
            "<meta http-equiv='refresh' content='5'>"
            f"<title>{verdict}: {html.escape(report['database'])}</title>"
            "<style>body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}"
            "td,th{border-bottom:1px solid #ccc;padding:.4em 1em;text-align:left}"
            ".good{color:#1a6b1a}.bad{color:#b00020}</style>"
            f"<h1 class='{'good' if report['ready'] else 'bad'}'>{verdict}</h1>"
            f"<p>Database at {html.escape(report['database'])}. Each query runs every "
            f"{self.settings.interval_seconds:g} s and times out after "
            f"{self.settings.deadline_seconds:g} s.</p>"
            "<table><tr><th>query<th>state<th>value<th>duration<th>last run<th>unchanged for"
            f"<th>required<th>reason</tr>{rows}</table></html>\n",
            "text/html; charset=utf-8",
        )


def _row(state: Mapping[str, Any]) -> str:
    def number(value: float | None, form: str) -> str:
        return "&ndash;" if value is None else form.format(value)

    return (
        f"<tr><td>{html.escape(state['query'])}"
        f"<td class='{'good' if state['healthy'] else 'bad'}'>"
        f"{'healthy' if state['healthy'] else 'not healthy'}"
        f"<td>{number(state['value'], '{:.15g}')}<td>{number(state['seconds'], '{:.4f} s')}"
        f"<td>{number(state['age_seconds'], '{:.1f} s ago')}"
        f"<td>{number(state['unchanged_seconds'], '{:.0f} s')}"
        f"<td>{'yes' if state['required'] else 'no'}<td>{html.escape(state['reason'])}</tr>"
    )


def main() -> None:
    """Run the queries and serve until SIGTERM."""
    settings = Settings.read(sys.argv[1])
    health = Health(settings)
    health.start()
    # The kubelet connects from outside the pod.
    web.Server(
        "0.0.0.0",  # noqa: S104
        settings.listen_port,
        {
            "/": health.page,
            "/health": health.health,
            "/live": lambda _: web.Answer("ok\n"),
            "/metrics": health.metrics,
            "/ready": health.ready,
        },
    ).run()


if __name__ == "__main__":
    main()
