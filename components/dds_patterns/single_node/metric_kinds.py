"""Alerts and panels for each program that an exporter supports."""

from collections.abc import Mapping
from dataclasses import dataclass

from dds_patterns.values.metrics import Alert, Panel
from dds_patterns.values.reach import Reach


@dataclass(frozen=True)
class MetricKind:
    """A program with statistics."""

    name: str
    title: str
    port: int
    """Usual port of its exporter."""
    server: Reach
    """Usual address of the program in its pod."""
    own_alerts: tuple[Alert, ...]
    own_panels: tuple[Panel, ...]

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The alerts of all programs, and its own."""
        title = self.title
        camel = title[0].upper() + title[1:]
        return (
            Alert(
                f"{camel}Down",
                f"{self.name}_up{{$job}} == 0",
                f"{title} at {{{{ $labels.instance }}}} does not answer its exporter.",
                for_seconds=30,
                severity="critical",
            ),
            Alert(
                f"{camel}ExporterDown",
                "up{$job} == 0",
                f"The exporter of {title} at {{{{ $labels.instance }}}} cannot be scraped; whether "
                f"{title} is up is not known.",
            ),
            Alert(
                f"{camel}ExporterAbsent",
                "absent(up{$job})",
                f"There is no exporter of {title} at all.",
                for_seconds=300,
            ),
            *self.own_alerts,
        )

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The panels of all programs, and its own."""
        return Panel("Up", {"{{instance}}": f"{self.name}_up{{$job}}"}), *self.own_panels


REDIS = MetricKind(
    "redis",
    "Redis",
    9121,
    Reach.local(6379, app_protocol="redis"),
    (
        Alert(
            "RedisMemoryNearlyFull",
            "redis_memory_used_bytes{$job} / (redis_memory_max_bytes{$job} > 0) > 0.9",
            "Redis at {{ $labels.instance }} has used {{ $value | humanizePercentage }} of its "
            "memory: a store is about to refuse writes.",
            for_seconds=300,
        ),
        Alert(
            "RedisRefusesConnections",
            "increase(redis_rejected_connections_total{$job}[5m]) > 0",
            "Redis at {{ $labels.instance }} refuses connections: maxclients is reached.",
            for_seconds=0,
        ),
        Alert(
            "RedisCannotSave",
            "redis_aof_last_write_status{$job} == 0",
            "Redis at {{ $labels.instance }} cannot write its append-only file.",
            for_seconds=0,
            severity="critical",
        ),
    ),
    (
        Panel(
            "Commands", {"{{instance}}": "rate(redis_commands_processed_total{$job}[1m])"}, "ops"
        ),
        Panel(
            "Memory",
            {
                "used {{instance}}": "redis_memory_used_bytes{$job}",
                "most {{instance}}": "redis_memory_max_bytes{$job}",
            },
            "bytes",
        ),
        Panel("Clients", {"{{instance}}": "redis_connected_clients{$job}"}),
        Panel(
            "Hit ratio",
            {
                "{{instance}}": "rate(redis_keyspace_hits_total{$job}[5m]) / "
                "(rate(redis_keyspace_hits_total{$job}[5m]) + "
                "rate(redis_keyspace_misses_total{$job}[5m]))"
            },
            "percentunit",
        ),
        Panel(
            "Keys evicted and expired",
            {
                "evicted {{instance}}": "rate(redis_evicted_keys_total{$job}[1m])",
                "expired {{instance}}": "rate(redis_expired_keys_total{$job}[1m])",
            },
            "ops",
        ),
        Panel("Slow commands in the log", {"{{instance}}": "redis_slowlog_length{$job}"}),
    ),
)

_MEMCACHED = MetricKind(
    "memcached",
    "memcached",
    9150,
    Reach.local(11211, app_protocol="memcached"),
    (
        Alert(
            "MemcachedConnectionsNearlyUsedUp",
            "memcached_current_connections{$job} / memcached_max_connections{$job} > 0.9",
            "memcached at {{ $labels.instance }} has used {{ $value | humanizePercentage }} of its "
            "connections.",
        ),
    ),
    (
        Panel(
            "Commands",
            {
                "{{command}} {{status}}": "sum by (command, status) "
                "(rate(memcached_commands_total{$job}[1m]))"
            },
            "ops",
        ),
        Panel(
            "Memory",
            {
                "items {{instance}}": "memcached_current_bytes{$job}",
                "most {{instance}}": "memcached_limit_bytes{$job}",
            },
            "bytes",
        ),
        Panel("Items evicted", {"{{instance}}": "rate(memcached_items_evicted_total{$job}[1m])"}),
    ),
)

_NGINX = MetricKind(
    "nginx",
    "nginx",
    9113,
    Reach.local(8081, path="/stub_status", app_protocol="http"),
    (
        Alert(
            "NginxDropsConnections",
            "increase(nginx_connections_accepted{$job}[5m]) - "
            "increase(nginx_connections_handled{$job}[5m]) > 0",
            "nginx at {{ $labels.instance }} drops connections: worker_connections are used up.",
            for_seconds=0,
        ),
    ),
    (
        Panel("Requests", {"{{instance}}": "rate(nginx_http_requests_total{$job}[1m])"}, "reqps"),
        Panel(
            "Connections",
            {
                "active {{instance}}": "nginx_connections_active{$job}",
                "waiting {{instance}}": "nginx_connections_waiting{$job}",
            },
        ),
    ),
)

_TWEMPROXY = MetricKind(
    "twemproxy",
    "twemproxy",
    9151,
    Reach.local(22222),
    (
        Alert(
            "TwemproxyServerLeftOut",
            "increase(twemproxy_server_ejects_total{$job}[5m]) > 0",
            "twemproxy at {{ $labels.instance }} ejects a server of {{ $labels.pool }}.",
            for_seconds=0,
        ),
        Alert(
            "TwemproxyForwardErrors",
            "rate(twemproxy_forward_errors_total{$job}[5m]) > 0",
            "twemproxy at {{ $labels.instance }} cannot forward commands of {{ $labels.pool }}.",
        ),
    ),
    (
        Panel(
            "Commands by server",
            {"{{server}}": "sum by (server) (rate(twemproxy_server_requests_total{$job}[1m]))"},
            "ops",
        ),
        Panel(
            "Failures",
            {
                "errors {{server}}": "rate(twemproxy_server_errors_total{$job}[1m])",
                "timeouts {{server}}": "rate(twemproxy_server_timeouts_total{$job}[1m])",
                "forwarding {{pool}}": "rate(twemproxy_forward_errors_total{$job}[1m])",
            },
            "ops",
        ),
        Panel("Queue", {"{{server}}": "twemproxy_server_out_queue{$job}"}),
    ),
)

KINDS: Mapping[str, MetricKind] = {
    kind.name: kind for kind in (REDIS, _MEMCACHED, _NGINX, _TWEMPROXY)
}
"""The programs by their names, which are also the prefixes of their metrics."""
