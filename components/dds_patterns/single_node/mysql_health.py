"""Adapter: a database's health as one pod's readiness (chapter 4).

The book's version runs one query inside the probe. Here queries have names and thresholds and run
in the background; the probe only reads their results. They affect readiness and never liveness: a
database that is busy or recovering must not be restarted.
"""

import functools
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import pulumi

from dds_patterns.arguments import (
    DISTINCT,
    Default,
    DefaultsTo,
    InputError,
    Later,
    Secret,
    between,
    matching,
    one_of,
    resolved,
)
from dds_patterns.arguments.addresses import UnprivilegedPort
from dds_patterns.arguments.constraints import Constraint, password, some
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import DnsLabel, check_name
from dds_patterns.arguments.place import Place
from dds_patterns.platform.generated import Password
from dds_patterns.pods.images import image_of
from dds_patterns.single_node.scraped import Scraped
from dds_patterns.values.metrics import Alert
from dds_patterns.values.reach import ONE_ENDPOINT, Reach, speaking
from dds_patterns.workloads.program import RESERVE, Program, ScrapedArgs

FLAVOURS = ("mariadb", "mysql")
PRESETS = ("answers", "connections", "replication_lag")

_CONFIG = "/etc/mysql-health/config.json"
_PASSWORD = "/etc/mysql-health-secret/password"  # noqa: S105 (a path)
_WORD = matching(
    r"[A-Za-z_][A-Za-z0-9_]*",
    "letters, digits and underscores, not beginning with a digit",
    most=32,
    odd=("a b", "1a", "a'b", "a`b", "a-b", "a\n", "ä"),
)
# `setup_sql` sets its user's password: root would lose its own, and an internal user could log in.
_SERVER_USERS = (
    "root", "mysql", "mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema",
)  # fmt: skip
_OF_THE_MONITOR = Constraint(
    f"none of the server's own ({', '.join(_SERVER_USERS)})",
    lambda user: user not in _SERVER_USERS,
    _SERVER_USERS,
)
_STATEMENT = matching(
    r"[^\0]*[^\0\s][^\0]*", "a statement in SQL, not blank", most=10_000, odd=(" ", "\n\t")
)
_COLUMN = matching(r"[^\0-\x1f]+", "the name of a column", most=64, odd=("a\nb",))
_LONGEST_SECONDS = 3600
# Each query has a thread in the monitor and a connection to the server.
_MOST_QUERIES = 16

_CONNECTIONS = {
    "mariadb": "SELECT 100 * VARIABLE_VALUE / @@GLOBAL.max_connections AS percent "
    "FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'THREADS_CONNECTED'",
    "mysql": "SELECT 100 * VARIABLE_VALUE / @@GLOBAL.max_connections AS percent "
    "FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Threads_connected'",
}
_LAG_COLUMN = {"mariadb": "Seconds_Behind_Master", "mysql": "Seconds_Behind_Source"}
_MONITOR = {"mariadb": "REPLICA MONITOR", "mysql": "REPLICATION CLIENT"}
_LOCAL = Reach.local(3306, app_protocol="mysql")


class HealthQueryArgs(TypedDict):
    """One health query. It has ``sql`` or ``preset``."""

    name: DnsLabel
    """Unique among the queries."""
    sql: NotRequired[Annotated[str, _STATEMENT]]
    """The statement. It must be cheap, since it runs every ``interval_seconds``."""
    preset: NotRequired[Annotated[str, one_of(*PRESETS)]]
    """``answers`` (SELECT 1, within 500 ms), ``connections`` (percent of max_connections in use, at
    most 90) or ``replication_lag`` (seconds, at most 30; a server that is no replica is healthy).
    The thresholds below override the preset's."""
    column: NotRequired[Annotated[str, _COLUMN, DefaultsTo("the first")]]
    """Column of the first row that holds the value."""
    at_most: NotRequired[float]
    """Largest healthy value."""
    at_least: NotRequired[float]
    """Smallest healthy value."""
    at_most_ms: NotRequired[
        Annotated[
            float, between(0.1, _LONGEST_SECONDS * 1000), DefaultsTo("only the deadline applies")
        ]
    ]
    """Longest healthy response time, in milliseconds."""
    required: NotRequired[Annotated[bool, Default(True)]]
    """Whether readiness depends on it; otherwise it is only reported."""
    empty: NotRequired[
        Annotated[
            str,
            one_of("healthy", "unhealthy"),
            DefaultsTo("unhealthy, for replication_lag healthy"),
        ]
    ]
    """Result of a query that returns no rows."""


_DEFAULT_QUERIES: tuple[HealthQueryArgs, ...] = (
    {"name": "answers", "preset": "answers"},
    {"name": "connections", "preset": "connections"},
)


class MySqlHealthArgs(ScrapedArgs):
    """Arguments of MySqlHealth."""

    image: NotRequired[Annotated[Later[Image], image_of("companions")]]
    """The project's image ``companions``."""
    queries: NotRequired[
        Annotated[
            Sequence[HealthQueryArgs], some(_MOST_QUERIES, "queries"), Default(_DEFAULT_QUERIES)
        ]
    ]
    """The health queries."""
    flavour: NotRequired[Annotated[str, one_of(*FLAVOURS), Default("mariadb")]]
    """Type of the server; the names of statistics differ."""
    server: NotRequired[
        Annotated[Reach, speaking("mysql"), ONE_ENDPOINT, DefaultsTo("127.0.0.1:3306")]
    ]
    """The database."""
    database: NotRequired[Annotated[str, _WORD, DefaultsTo("none")]]
    """Database that the queries run in."""
    user: NotRequired[Annotated[str, _OF_THE_MONITOR, _WORD, Default("health")]]
    """User of the monitor alone. ``setup_sql`` creates it and sets its password."""
    password: NotRequired[
        Annotated[Secret[Annotated[str, password(8)]], DefaultsTo("a generated one")]
    ]
    """Its password."""
    generation: NotRequired[Annotated[int, between(1, 1_000_000), Default(1)]]
    """Another number generates a new password. The former one is not kept: the server sets the new
    one when it starts with ``setup_sql``."""
    period_seconds: NotRequired[Annotated[int, between(1, _LONGEST_SECONDS), Default(5)]]
    """Seconds between two probes. The pod is unready at most two periods after the database has
    failed."""
    interval_seconds: NotRequired[Annotated[float, between(0.2, _LONGEST_SECONDS), Default(2)]]
    """Seconds between two runs of a query. With the deadline it must not exceed the period."""
    deadline_seconds: NotRequired[Annotated[float, between(0.1, _LONGEST_SECONDS), Default(1)]]
    """Timeout of a query, in seconds."""
    port: NotRequired[Annotated[UnprivilegedPort, Default(9104)]]
    """Port of status pages, probes and metrics."""


_ALERTS = (
    Alert(
        "DatabaseNotReady",
        "mysql_health_ready{$job} == 0",
        "The database at {{ $labels.instance }} is not ready.",
        for_seconds=30,
        severity="critical",
    ),
    Alert(
        "DatabaseQueryUnhealthy",
        "mysql_health_query_healthy{$job} == 0",
        "The query {{ $labels.query }} of the database at {{ $labels.instance }} is unhealthy.",
    ),
    Alert(
        "DatabaseMonitorDown",
        "up{$job} == 0",
        "The health monitor at {{ $labels.instance }} cannot be scraped.",
    ),
)


class MySqlHealth(Scraped, pulumi.ComponentResource):
    """A health monitor beside a MySQL or MariaDB.

    Registers its configuration and its password, which the pod gets as files. ``companion`` goes to
    the database's workload: its readiness probe reports the result of the queries, its liveness
    probe checks the monitor alone.
    """

    setup_sql: pulumi.Output[str]
    """Idempotent statements, one a line, that create the user; a secret. For MariaDB's and MySQL's
    ``--init-file``."""

    def __init__(
        self, name: str, args: MySqlHealthArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the monitor.

        :param name: a DNS label of at most 50 characters, the first a letter; names the container
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'MySqlHealth "{name}"'
        args = _checked(where, name, args)
        super().__init__("dds:index:MySqlHealth", name, {"image": args["image"]}, opts)
        own = pulumi.ResourceOptions(parent=self)
        given = args.get("password")
        if given is None:
            given = Password(f"{name}-password", {"generation": args["generation"]}, own).value
        password: pulumi.Output[str] = pulumi.Output.secret(given)
        server = args.get("server", _LOCAL)
        self.setup_sql = password.apply(functools.partial(_setup_sql, args, _origin(server)))
        program = Program(
            where,
            name,
            application="mysql-health",
            part="adapter",
            image=args["image"],
            hosting=args["hosting"],
            command=["python3", "-m", "companions.mysql_health", _CONFIG],
            files={_CONFIG: _json(args, server)},
            secret_files={_PASSWORD: password},
            metrics={
                "name": "mysql-health",
                "port": args["port"],
                "clients": args["metrics_clients"],
            },
            # It starts before the database, so its startup probe must not depend on it.
            startup={"path": "/live"},
            readiness={
                "path": "/ready",
                "period_seconds": args["period_seconds"],
                "timeout_seconds": min(3, args["period_seconds"]),
                "failure_threshold": 1,
            },
            liveness={"path": "/live"},
            reaches=(server,),
        )
        self._run(program, _ALERTS, own)
        self.register_outputs({"setup_sql": self.setup_sql})


def _json(args: MySqlHealthArgs, server: Reach) -> pulumi.Output[str]:
    """The program's configuration file; the password is in another."""
    content = {
        "host": server.endpoint.apply(_host),
        "port": server.endpoint.apply(lambda endpoint: int(endpoint.rpartition(":")[2])),
        "user": args["user"],
        "password_file": _PASSWORD,
        "flavour": args["flavour"],
        "database": args.get("database"),
        "listen_port": args["port"],
        "interval_seconds": args["interval_seconds"],
        "deadline_seconds": args["deadline_seconds"],
        "queries": [_query(query, args["flavour"]) for query in args["queries"]],
    }
    return pulumi.Output.json_dumps(content, indent=1).apply(lambda text: f"{text}\n")


def _setup_sql(args: MySqlHealthArgs, origin: str, password: str) -> str:
    """Idempotent statements that create the user."""
    account = f"'{args['user']}'@'{origin}'"
    if args["flavour"] == "mariadb":
        # The server need not see the password itself.
        once = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
        twice = hashlib.sha1(once, usedforsecurity=False).hexdigest().upper()
        identified = f"IDENTIFIED BY PASSWORD '*{twice}'"
    else:
        identified = f"IDENTIFIED BY '{password}'"
    lines = [
        f"CREATE USER IF NOT EXISTS {account} {identified};",
        f"ALTER USER {account} {identified};",
        f"GRANT {_MONITOR[args['flavour']]} ON *.* TO {account};",
    ]
    if "database" in args:
        lines.append(f"GRANT SELECT ON `{args['database']}`.* TO {account};")
    return "\n".join(lines) + "\n"


def _host(endpoint: str) -> str:
    """Its host as a socket takes it: without the brackets of IPv6."""
    return endpoint.rpartition(":")[0].strip("[]")


def _origin(server: Reach) -> str:
    """Host from which the server sees the monitor connect."""
    if not server.is_local:
        return "%"
    # Both ends of a connection to loopback have an address of one family.
    return "::1" if _host(str(server.endpoints[0])) == "::1" else "127.0.0.1"


def _checked(where: str, name: str, args: MySqlHealthArgs) -> MySqlHealthArgs:
    check_name(where, name, reserve=RESERVE, service=True)
    args = resolved(where, MySqlHealthArgs, args)
    if "password" in args and args["generation"] != 1:
        raise InputError(
            where,
            "generation",
            args["generation"],
            "must be left out with a password: none is generated here",
        )
    interval, deadline = args["interval_seconds"], args["deadline_seconds"]
    if interval + deadline > args["period_seconds"]:
        raise InputError(
            where,
            "interval_seconds",
            interval,
            f"must, with deadline_seconds ({deadline:g}), be at most period_seconds "
            f"({args['period_seconds']}): the pod is to be unready within two periods",
        )
    for position, query in enumerate(args["queries"]):
        argument = f"queries[{position}]"
        if ("sql" in query) == ("preset" in query):
            raise InputError(where, argument, query, "must have sql or preset, and not both")
        # Merged with the preset's.
        bounds = _query(query, args["flavour"])
        if bounds.get("at_least", float("-inf")) > bounds.get("at_most", float("inf")):
            raise InputError(
                where,
                f"{argument}.at_least",
                bounds["at_least"],
                f"is above at_most {bounds['at_most']}",
            )
    DISTINCT.check(Place(where, "queries.name"), [query["name"] for query in args["queries"]])
    return args


def _query(given: HealthQueryArgs, flavour: str) -> dict[str, Any]:
    """A query as the program reads it, merged with its preset."""
    query: dict[str, Any] = {"sql": given.get("sql")}
    if "preset" in given:
        query = _preset(given["preset"], flavour)
    query |= {key: value for key, value in given.items() if key not in ("preset", "empty")}
    if "empty" in given:
        query["empty_is_healthy"] = given["empty"] == "healthy"
    return query


def _preset(preset: str, flavour: str) -> dict[str, Any]:
    if preset == "answers":
        return {"sql": "SELECT 1", "at_most_ms": 500.0}
    if preset == "connections":
        return {"sql": _CONNECTIONS[flavour], "at_most": 90.0}
    return {
        "sql": "SHOW REPLICA STATUS",
        "column": _LAG_COLUMN[flavour],
        "at_most": 30.0,
        "empty_is_healthy": True,
    }
