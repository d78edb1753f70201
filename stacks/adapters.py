"""Composition ``adapters``: five programs with five formats, and adapters to a uniform interface.

Prometheus scrapes metrics of redis, memcached, nginx and twemproxy, and evaluates alerting rules; a
database's health decides the readiness of its pod; the slow logs of redis and the database and nginx'
access log are written in one format. ``make`` registers the resources on any cluster: the live tests
deploy the same.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar

import pulumi

from dds_patterns import (
    Application,
    Hosting,
    LogAdapter,
    MetricsExporter,
    MySqlHealth,
    Password,
    Prometheus,
    RedisExporter,
    ScrapeJob,
    ShardedRedis,
    SmokeTest,
    StatefulApplication,
    TwemproxyAmbassador,
)
from stacks import tries
from stacks.parts import NGINX_WRITES, nginx_command, nginx_conf
from stacks.settings import Settings
from stacks.target import target

IMAGES = (
    "companions", "mariadb", "memcached", "nginx", "prometheus", "redis", "redis-exporter",
    "toolbox", "twemproxy",
)  # fmt: skip
"""The images that ``make`` needs."""

_CHECK = pathlib.Path(__file__).parent / "scripts" / "adapters_check.py"
_PASSWORD_FILE = "/etc/redis-client/password"  # noqa: S105 (a path)
_SETUP = "/etc/mariadb-setup/setup.sql"
_NGINX_CONF = "/etc/nginx-web/nginx.conf"
_HEALTH_PORT = 9104
_ACCESS_LOG = f"{LogAdapter.FOLDER}/access.log"
_SLOW_LOG = f"{LogAdapter.FOLDER}/slow.log"
# nginx quotes a word as JSON does.
SITE = f"""\
log_format timed {json.dumps(LogAdapter.NGINX_FORMAT)};
server {{
  listen 8080;
  access_log {_ACCESS_LOG} timed;
  location / {{
    return 200 hello;
  }}
}}
server {{
  listen 127.0.0.1:8081;
  location /stub_status {{
    stub_status;
  }}
}}
"""
"""The site's servers, as nginx has them in ``http``."""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Adapters:
    """What was deployed."""

    store: ShardedRedis
    application: Application
    web: Application
    cache: Application
    database: StatefulApplication
    prometheus: Prometheus
    jobs: Mapping[str, ScrapeJob]
    """Scrape jobs, by the adapter's name."""
    dashboards: Mapping[str, str]


def make(
    images: Mapping[str, pulumi.Input[str]],
    hosting: Hosting,
    scrape_interval_seconds: int,
    slow_command_ms: int,
    opts: pulumi.ResourceOptions,
) -> Adapters:
    """Deploy the programs, each with its adapter, and Prometheus.

    :param images: references by the names in IMAGES
    :param scrape_interval_seconds: seconds between two scrapes
    :param slow_command_ms: threshold of the slow logs in milliseconds
    """
    # An exporter whose timeout is longer than Prometheus' is reported as down instead of its program.
    patience = min(3.0, 0.8 * scrape_interval_seconds)
    store_metrics = RedisExporter(
        "redis-metrics",
        {
            "image": images["redis-exporter"],
            "deadline_seconds": patience,
            "hosting": hosting,
        },
        opts,
    )
    store_logs = LogAdapter(
        "redis-logs",
        {
            "image": images["companions"],
            "sources": [{"name": "redis", "kind": "redis_slowlog"}],
            "hosting": hosting,
        },
        opts,
    )
    store = ShardedRedis(
        "redis",
        {
            "image": images["redis"],
            "shards": 1,
            "companions": [store_metrics.companion, store_logs.companion],
            "users": [user for user in (store_metrics.user, store_logs.user) if user is not None],
            "slow_command_ms": slow_command_ms,
            "hosting": hosting,
        },
        opts,
    )
    ambassador = TwemproxyAmbassador(
        "twemproxy",
        {
            "image": images["twemproxy"],
            "store": store.reach,
            "hosting": hosting,
        },
        opts,
    )
    ambassador_metrics = MetricsExporter(
        "twemproxy-metrics",
        {
            "image": images["companions"],
            "kind": "twemproxy",
            "server": ambassador.statistics,
            "deadline_seconds": patience,
            "hosting": hosting,
        },
        opts,
    )
    application = Application(
        "counter",
        {
            "image": images["toolbox"],
            "command": ["python3", "/opt/examples/counter.py"],
            "env": {"REDIS": ambassador.endpoint, "PASSWORD_FILE": _PASSWORD_FILE},
            "secret_files": {_PASSWORD_FILE: store.password},
            "ports": [{"name": "http", "port": 8080}],
            "clients": [{}],
            "readiness": {"path": "/readyz"},
            "liveness": {"path": "/livez"},
            "companions": [ambassador.companion, ambassador_metrics.companion],
            "hosting": hosting,
        },
        opts,
    )
    web_metrics = MetricsExporter(
        "web-metrics",
        {
            "image": images["companions"],
            "kind": "nginx",
            "deadline_seconds": patience,
            "hosting": hosting,
        },
        opts,
    )
    web_logs = LogAdapter(
        "web-logs",
        {
            "image": images["companions"],
            "sources": [{"name": "web", "kind": "nginx_access", "path": _ACCESS_LOG}],
            "hosting": hosting,
        },
        opts,
    )
    web = Application(
        "web",
        {
            "image": images["nginx"],
            "command": nginx_command(_NGINX_CONF),
            "files": {
                _NGINX_CONF: nginx_conf(
                    "A site, and its statistics for the exporter in the same pod.", SITE
                )
            },
            "writable": [NGINX_WRITES],
            "ports": [{"name": "http", "port": 8080}],
            "clients": [{}],
            "readiness": {"path": "/"},
            "companions": [web_metrics.companion, web_logs.companion],
            "volume_mounts": [_known(web_logs.log_mount)],
            "hosting": hosting,
        },
        opts,
    )
    cache_metrics = MetricsExporter(
        "memcached-metrics",
        {
            "image": images["companions"],
            "kind": "memcached",
            "deadline_seconds": patience,
            "hosting": hosting,
        },
        opts,
    )
    cache = Application(
        "memcached",
        {
            "image": images["memcached"],
            "command": ["memcached", "--listen=0.0.0.0", "--memory-limit=32", "--disable-cas"],
            "ports": [{"name": "memcached", "port": 11211}],
            "clients": [{}],
            "companions": [cache_metrics.companion],
            "hosting": hosting,
        },
        opts,
    )
    health = MySqlHealth(
        "database-health",
        {
            "image": images["companions"],
            "port": _HEALTH_PORT,
            "queries": [
                {"name": "answers", "preset": "answers"},
                {"name": "connections", "preset": "connections", "at_most": 80},
                {"name": "replication-lag", "preset": "replication_lag"},
            ],
            "hosting": hosting,
        },
        opts,
    )
    database_logs = LogAdapter(
        "database-logs",
        {
            "image": images["companions"],
            "sources": [{"name": "database", "kind": "mysql_slow", "path": _SLOW_LOG}],
            "hosting": hosting,
        },
        opts,
    )
    database = _database(images, hosting, health, database_logs, slow_command_ms, opts)
    logs = (store_logs, web_logs, database_logs)
    exporters = (store_metrics, ambassador_metrics, web_metrics, cache_metrics)
    adapters = (*exporters, *logs, health)
    prometheus = Prometheus(
        "prometheus",
        {
            "image": images["prometheus"],
            "jobs": [adapter.job for adapter in adapters],
            "alerts": [alert for adapter in adapters for alert in adapter.alerts],
            "scrape_interval_seconds": scrape_interval_seconds,
            "hosting": hosting,
        },
        opts,
    )
    return Adapters(
        store=store,
        application=application,
        web=web,
        cache=cache,
        database=database,
        prometheus=prometheus,
        jobs={adapter.job.name: adapter.job for adapter in adapters},
        dashboards={exporter.job.name: exporter.dashboard for exporter in exporters},
    )


def deploy(settings: Settings) -> None:
    """Deploy the programs, their adapters and the check; export outputs for the user."""
    here = target(settings, IMAGES)
    catalog = here.images
    images = {name: catalog.reference(name) for name in IMAGES}
    made = make(
        images, here.hosting, settings.scrape_interval_seconds, settings.slow_command_ms, here.opts
    )
    health = made.jobs["database-health"].reach
    # For DNS, a scrape of each and an evaluation of the rules.
    seconds = 100 + 6 * settings.scrape_interval_seconds
    SmokeTest(
        "adapters-check",
        {
            "image": images["toolbox"],
            "script": _CHECK.read_text(),
            "env": {
                "PLAN": pulumi.Output.json_dumps(
                    {
                        "prometheus": made.prometheus.endpoint,
                        "health": health.endpoint,
                        "up": [
                            f"{metric}_up"
                            for metric in ("redis", "twemproxy", "nginx", "memcached")
                        ],
                        "seconds": seconds,
                    }
                )
            },
            "covers": [
                made.store.application.stateful_set.spec,
                made.application.deployment.spec,
                made.web.deployment.spec,
                made.cache.deployment.spec,
                made.database.stateful_set.spec,
                made.prometheus.application.stateful_set.spec,
            ],
            "reaches": [made.prometheus.reach, health],
            "timeout_seconds": seconds + 50,
            "hosting": here.hosting,
        },
        here.opts,
    )
    _export(settings, made)


def _database(
    images: Mapping[str, pulumi.Input[str]],
    hosting: Hosting,
    health: MySqlHealth,
    logs: LogAdapter,
    slow_command_ms: int,
    opts: pulumi.ResourceOptions,
) -> StatefulApplication:
    root = Password("database-root").value
    setup = pulumi.Output.all(health.setup_sql, root).apply(
        lambda known: f"{known[0]}ALTER USER root@localhost IDENTIFIED BY '{known[1]}';\n"
    )
    return StatefulApplication(
        "database",
        {
            "image": images["mariadb"],
            "args": [
                f"--init-file={_SETUP}",
                "--skip-name-resolve",
                "--innodb-buffer-pool-size=32M",
                "--innodb-log-file-size=16M",
                "--performance-schema=OFF",
                "--max-connections=40",
                "--slow-query-log=ON",
                f"--slow-query-log-file={_SLOW_LOG}",
                f"--long-query-time={slow_command_ms / 1000:g}",
            ],
            "secret_files": {_SETUP: setup},
            # The data is deleted with the pod: this database is for demonstration only.
            "writable": ["/data", "/tmp"],  # noqa: S108
            "writable_size": "512Mi",
            "ports": [{"name": "mysql", "port": 3306}],
            "clients": [{}],
            "companions": [health.companion, logs.companion],
            "volume_mounts": [_known(logs.log_mount)],
            "hosting": hosting
            | {"resources": {"requests": {"memory": "160Mi"}, "limits": {"memory": "384Mi"}}},
        },
        opts,
    )


def _known(value: T | None) -> T:
    """A value that is not None with the given arguments."""
    if value is None:
        raise RuntimeError("the arguments above ask for it")
    return value


def _export(settings: Settings, made: Adapters) -> None:
    namespace = settings.composition
    pulumi.export("endpoint", made.prometheus.endpoint)
    ask = (
        f"kubectl -n {namespace} exec prometheus-0 -c prometheus -- "
        "promtool query instant http://127.0.0.1:9090"
    )
    commands: dict[str, Any] = {
        "what is up": f"{ask} 'up'",
        "is redis up": f"{ask} redis_up",
        "stop redis": f"kubectl -n {namespace} exec redis-0 -c redis -- sh -c 'kill 1'",
        "dashboards, for Grafana": f"kubectl -n {namespace} get configmaps -l grafana_dashboard=1",
        "logs of all adapters": f"kubectl -n {namespace} logs redis-0 -c redis-logs && "
        f"kubectl -n {namespace} logs database-0 -c database-logs && "
        f"kubectl -n {namespace} logs -l app.kubernetes.io/instance=web -c web-logs",
        "alarms": f"{ask} 'ALERTS'",
        "health of the database": f"kubectl -n {namespace} exec database-0 -c database-health -- "
        "python3 -c 'import urllib.request as r; "
        f'print(r.urlopen("http://127.0.0.1:{_HEALTH_PORT}/health").read().decode())\'',
        "the health page": tries.forwarded(
            namespace, "database-0", _HEALTH_PORT, f"{tries.CURL} localhost:{_HEALTH_PORT}/"
        ),
    }
    pulumi.export("try", commands)
