"""Adapter: a database's health as one pod's readiness (chapter 4).

What the book prints asks one query inside the probe. Here queries have names and thresholds and
run in the background; the probe only reads what they found. They decide readiness and can decide
nothing else: a database that is busy or recovering must not be restarted for it.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import (
    ConfigMap,
    ContainerArgsDict,
    ResourceRequirementsArgsDict,
    Secret,
    VolumeArgsDict,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.arguments.errors import InputError
from components.platform.generated import Password
from components.pods import labels as pod_labels
from components.pods.companion import Companion, Listener
from components.pods.probes import asked
from components.single_node import scraped
from components.values import checks
from components.values.edges import Edge
from components.values.metrics import Alert, ScrapeJob
from components.values.names import child

FLAVOURS = ("mariadb", "mysql")
PRESETS = ("answers", "connections", "replication_lag")

_CONFIG = "/etc/mysql-health"
_SECRET = "/etc/mysql-health-secret"  # noqa: S105 (a path)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
_PASSWORD = re.compile(r"[-._~A-Za-z0-9]{8,128}")
# Each has a thread here and a connection there.
_MOST_QUERIES = 16

_CONNECTIONS = {
    "mariadb": "SELECT 100 * VARIABLE_VALUE / @@GLOBAL.max_connections AS percent "
    "FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'THREADS_CONNECTED'",
    "mysql": "SELECT 100 * VARIABLE_VALUE / @@GLOBAL.max_connections AS percent "
    "FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Threads_connected'",
}
_LAG_COLUMN = {"mariadb": "Seconds_Behind_Master", "mysql": "Seconds_Behind_Source"}
_MONITOR = {"mariadb": "REPLICA MONITOR", "mysql": "REPLICATION CLIENT"}


class HealthQueryArgs(TypedDict):
    """One question to the database. It has ``sql`` or ``preset``."""

    name: str
    """A DNS label, unique among the queries."""
    sql: NotRequired[str]
    """What is asked. It must be cheap, for it is asked every ``interval_seconds``."""
    preset: NotRequired[str]
    """``answers`` (SELECT 1, within 500 ms), ``connections`` (percent of max_connections in use, at
    most 90) or ``replication_lag`` (seconds, at most 30; a server that is no replica is healthy).
    The thresholds below take the place of the preset's."""
    column: NotRequired[str]
    """Column of the first row with the value. Defaults to the first."""
    at_most: NotRequired[float]
    """Largest healthy value."""
    at_least: NotRequired[float]
    """Smallest healthy value."""
    at_most_ms: NotRequired[float]
    """Longest healthy time to answer, in milliseconds. By default only the deadline counts."""
    required: NotRequired[bool]
    """Whether readiness depends on it. Defaults to yes; otherwise it is only shown and measured."""
    empty: NotRequired[str]
    """What an answer without rows is: ``healthy`` or ``unhealthy``. Defaults to ``unhealthy``, for
    ``replication_lag`` to ``healthy``."""


_DEFAULT_QUERIES: tuple[HealthQueryArgs, ...] = (
    {"name": "answers", "preset": "answers"},
    {"name": "connections", "preset": "connections"},
)


class MySqlHealthArgs(TypedDict):
    """Arguments of MySqlHealth."""

    image: pulumi.Input[str]
    """The project's image ``companions``, with a tag or digest."""
    queries: NotRequired[Sequence[HealthQueryArgs]]
    """From 1 to 16. Default to the presets ``answers`` and ``connections``."""
    flavour: NotRequired[str]
    """``mariadb`` (default) or ``mysql``: they differ in the names of their statistics."""
    host: NotRequired[str]
    """Where the database listens. Defaults to 127.0.0.1, the same pod."""
    database_port: NotRequired[int]
    """Its port. Defaults to 3306."""
    database: NotRequired[str]
    """Database that the queries are asked in. By default none."""
    user: NotRequired[str]
    """User that asks. Defaults to health. ``setup_sql`` makes it."""
    password: NotRequired[pulumi.Input[str]]
    """Its password, 8 to 128 characters of A to Z, a to z, 0 to 9 and ``-._~``. By default generated once."""
    period_seconds: NotRequired[int]
    """Seconds between two probes, from 1. Defaults to 5. The pod is unready two periods after the
    database has failed, at the latest."""
    interval_seconds: NotRequired[float]
    """Seconds between two runs of a query, from 0.2. Defaults to 2. With the deadline it must not be
    longer than the period."""
    deadline_seconds: NotRequired[float]
    """Seconds after which a query is given up, from 0.1. Defaults to 1."""
    port: NotRequired[int]
    """Port of the pages, the probes and the metrics, from 1024. Defaults to 9104."""
    scrapers: NotRequired[Sequence[Mapping[str, str]]]
    """Labels of pods that may read pages and metrics. Default to those labelled ``dds/scrapes:
    "true"``."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits; what is left out keeps the default of every container."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace, the same as that of the pods. Defaults to the provider's."""


class MySqlHealth(pulumi.ComponentResource):
    """A health monitor beside a MySQL or MariaDB.

    Registers its configuration and its password, which the pod gets as files. ``companion`` goes to
    the database's workload: its readiness probe is the queries' verdict, its liveness probe asks
    the monitor alone.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    job: ScrapeJob
    """What Prometheus scrapes."""
    alerts: tuple[Alert, ...]
    """Rules for Prometheus."""
    setup_sql: pulumi.Output[str]
    """Statements, one a line, that make the user and can be run again; a secret. For MariaDB and
    MySQL's ``--init-file``."""

    def __init__(
        self, name: str, args: MySqlHealthArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the monitor.

        :param name: a DNS label of at most 50 characters; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'MySqlHealth "{name}"'
        settings = _checked(where, name, args)
        super().__init__("dds:index:MySqlHealth", name, {"image": args["image"]}, opts)
        own = pulumi.ResourceOptions(parent=self)
        selector = pod_labels.selector("mysql-health", name, "adapter")
        metadata: ObjectMetaArgsDict = {"labels": pod_labels.standard(selector, None)}
        if "namespace" in args:
            metadata["namespace"] = args["namespace"]
        given = args.get("password")
        if given is None:
            given = Password(f"{name}-password", {}, own).value
        password = pulumi.Output.secret(given).apply(lambda value: _check_password(where, value))
        self.setup_sql = password.apply(settings.setup_sql)
        config = ConfigMap(
            name, metadata=metadata, data={"config.json": settings.json()}, immutable=True, opts=own
        )
        secret = Secret(
            name,
            metadata=metadata,
            type="Opaque",
            string_data={"password": password},
            immutable=True,
            opts=own,
        )
        config_volume, secret_volume = child(name, "config"), child(name, "password")
        volumes: tuple[VolumeArgsDict, ...] = (
            {"name": config_volume, "config_map": {"name": config.metadata["name"]}},
            {
                "name": secret_volume,
                "secret": {"secret_name": secret.metadata["name"], "default_mode": 0o440},
            },
        )
        container: ContainerArgsDict = {
            "name": name,
            "image": args["image"],
            "command": ["python3", "-m", "companions.mysql_health", f"{_CONFIG}/config.json"],
            "volume_mounts": [
                {"name": config_volume, "mount_path": _CONFIG, "read_only": True},
                {"name": secret_volume, "mount_path": _SECRET, "read_only": True},
            ],
            # It starts before the database, so its own start must not ask for it.
            "startup_probe": asked("/live", settings.listen_port, 1, 60),
            "readiness_probe": asked(
                "/ready", settings.listen_port, settings.period, 1, min(3, settings.period)
            ),
            "liveness_probe": asked("/live", settings.listen_port, 10, 6),
        }
        if "resources" in args:
            container["resources"] = args["resources"]
        self.companion = Companion(
            name=name,
            containers=(container,),
            listeners=(Listener(settings.listen_port, "mysql-health"),),
            volumes=volumes,
            pod_labels=scraped.labels(name),
            ingress=settings.ingress,
            depends_on=(config, secret),
        )
        self.job = scraped.job(name, settings.listen_port, metadata, own)
        self.alerts = _alerts(name)
        self.register_outputs({})


@dataclasses.dataclass(frozen=True)
class _Settings:
    flavour: str
    host: str
    database_port: int
    database: str | None
    user: str
    listen_port: int
    period: int
    interval: float
    deadline: float
    queries: Sequence[Mapping[str, Any]]
    ingress: tuple[Edge, ...]

    def json(self) -> str:
        """The program's configuration file; the password is in another."""
        return (
            json.dumps(
                {
                    "host": self.host,
                    "port": self.database_port,
                    "user": self.user,
                    "password_file": f"{_SECRET}/password",
                    "flavour": self.flavour,
                    "database": self.database,
                    "listen_port": self.listen_port,
                    "interval_seconds": self.interval,
                    "deadline_seconds": self.deadline,
                    "queries": self.queries,
                },
                indent=1,
            )
            + "\n"
        )

    def setup_sql(self, password: str) -> str:
        """What makes the user, on its first run and on any later one."""
        from_where = "127.0.0.1" if self.host in _LOOPBACK else "%"
        who = f"'{self.user}'@'{from_where}'"
        if self.flavour == "mariadb":
            # The server need not see the password itself.
            once = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
            twice = hashlib.sha1(once, usedforsecurity=False).hexdigest().upper()
            identified = f"IDENTIFIED BY PASSWORD '*{twice}'"
        else:
            identified = f"IDENTIFIED BY '{password}'"
        lines = [
            f"CREATE USER IF NOT EXISTS {who} {identified};",
            f"ALTER USER {who} {identified};",
            f"GRANT {_MONITOR[self.flavour]} ON *.* TO {who};",
        ]
        if self.database is not None:
            lines.append(f"GRANT SELECT ON `{self.database}`.* TO {who};")
        return "\n".join(lines) + "\n"


def _check_password(where: str, value: str) -> str:
    if not _PASSWORD.fullmatch(value):
        raise InputError(
            where,
            "password",
            "<secret>",
            "must have from 8 to 128 characters of A to Z, a to z, 0 to 9 and -._~",
        )
    return value


def _checked(where: str, name: str, args: MySqlHealthArgs) -> _Settings:
    scraped.check(where, name, MySqlHealthArgs, args)
    flavour = checks.one_of(where, "flavour", args.get("flavour", "mariadb"), FLAVOURS)
    for argument, default in (("user", "health"), ("database", "none")):
        value: Any = args.get(argument, default)
        if not isinstance(value, str) or not _WORD.fullmatch(value):
            raise InputError(
                where, argument, value, "must have at most 32 letters, digits and underscores"
            )
    host = args.get("host", "127.0.0.1")
    if not host or any(c.isspace() for c in host):
        raise InputError(where, "host", host, "must be a host name or an address")
    if isinstance(given := args.get("password"), str):
        _check_password(where, given)
    period = checks.integer(where, "period_seconds", args.get("period_seconds", 5), minimum=1)
    interval = checks.number(
        where, "interval_seconds", args.get("interval_seconds", 2.0), minimum=0.2
    )
    deadline = checks.number(
        where, "deadline_seconds", args.get("deadline_seconds", 1.0), minimum=0.1
    )
    if interval + deadline > period:
        raise InputError(
            where,
            "interval_seconds",
            interval,
            f"must, with deadline_seconds ({deadline:g}), be at most period_seconds ({period}): the "
            "pod is to be unready within two periods",
        )
    queries = args.get("queries", _DEFAULT_QUERIES)
    if not 1 <= len(queries) <= _MOST_QUERIES:
        raise InputError(where, "queries", len(queries), f"must be from 1 to {_MOST_QUERIES}")
    rendered = [
        _query(where, f"queries[{place}]", query, flavour) for place, query in enumerate(queries)
    ]
    checks.unique(where, "queries.name", [query["name"] for query in rendered])
    listen_port = checks.integer(where, "port", args.get("port", 9104), minimum=1024, maximum=65535)
    return _Settings(
        flavour=flavour,
        host=host,
        database_port=checks.port(where, "database_port", args.get("database_port", 3306)),
        database=args.get("database"),
        user=args.get("user", "health"),
        listen_port=listen_port,
        ingress=scraped.edges(where, listen_port, args.get("scrapers", scraped.DEFAULT_SCRAPERS)),
        period=period,
        interval=interval,
        deadline=deadline,
        queries=rendered,
    )


def _query(where: str, argument: str, given: HealthQueryArgs, flavour: str) -> dict[str, Any]:
    checks.known_arguments(f"{where}: {argument}", HealthQueryArgs, given)
    checks.dns_label(where, f"{argument}.name", given["name"])
    if ("sql" in given) == ("preset" in given):
        raise InputError(where, argument, dict(given), "must have sql or preset, and not both")
    if "preset" in given:
        checks.one_of(where, f"{argument}.preset", given["preset"], PRESETS)
        query = _preset(given["preset"], flavour)
    else:
        if not given["sql"].strip():
            raise InputError(where, f"{argument}.sql", given["sql"], "must not be empty")
        query = {"sql": given["sql"]}
    query["name"] = given["name"]
    for key in ("at_most", "at_least", "at_most_ms"):
        if key in given:
            query[key] = checks.number(where, f"{argument}.{key}", given[key])
    if query.get("at_least", float("-inf")) > query.get("at_most", float("inf")):
        raise InputError(
            where, f"{argument}.at_least", query["at_least"], f"is above at_most {query['at_most']}"
        )
    if "column" in given:
        query["column"] = given["column"]
    if "required" in given:
        query["required"] = given["required"]
    if "empty" in given:
        meaning = checks.one_of(
            where, f"{argument}.empty", given["empty"], ("healthy", "unhealthy")
        )
        query["empty_is_healthy"] = meaning == "healthy"
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


def _alerts(job: str) -> tuple[Alert, ...]:
    return (
        Alert(
            "DatabaseNotReady",
            f'mysql_health_ready{{job="{job}"}} == 0',
            "The database at {{ $labels.instance }} is not ready.",
            hold_seconds=30,
            severity="critical",
        ),
        Alert(
            "DatabaseQueryUnhealthy",
            f'mysql_health_query_healthy{{job="{job}"}} == 0',
            "The query {{ $labels.query }} of the database at {{ $labels.instance }} is unhealthy.",
        ),
        Alert(
            "DatabaseMonitorDown",
            f'up{{job="{job}"}} == 0',
            "The health monitor at {{ $labels.instance }} cannot be scraped.",
        ),
    )
