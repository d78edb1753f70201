"""What is worth watching in each program that an exporter knows: alerts and panels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from components.values.metrics import Alert, Panel
from components.values.reach import Reach


@dataclass(frozen=True)
class MetricKind:
    """A program with statistics."""

    name: str
    title: str
    port: int
    """Where its exporter is customarily scraped."""
    server: Reach
    """Where the program usually listens in its pod."""
    own_alerts: Callable[[str], tuple[Alert, ...]]
    own_panels: Callable[[str], tuple[Panel, ...]]

    def alerts(self, job: str) -> tuple[Alert, ...]:
        """Those that all programs have, and its own."""
        title = self.title
        camel = title[0].upper() + title[1:]
        return (
            Alert(
                f"{camel}Down",
                f'{self.name}_up{{job="{job}"}} == 0',
                f"{title} at {{{{ $labels.instance }}}} does not answer its exporter.",
                hold_seconds=30,
                severity="critical",
            ),
            Alert(
                f"{camel}ExporterDown",
                f'up{{job="{job}"}} == 0',
                f"The exporter of {title} at {{{{ $labels.instance }}}} cannot be scraped; whether "
                f"{title} is up is not known.",
                hold_seconds=60,
            ),
            Alert(
                f"{camel}ExporterAbsent",
                f'absent(up{{job="{job}"}})',
                f"There is no exporter of {title} at all.",
                hold_seconds=300,
            ),
            *self.own_alerts(job),
        )

    def panels(self, job: str) -> tuple[Panel, ...]:
        """Those that all programs have, and its own."""
        return (
            Panel("Up", {"{{instance}}": f'{self.name}_up{{job="{job}"}}'}),
            *self.own_panels(job),
        )


def _of(job: str) -> str:
    return f'{{job="{job}"}}'


def _redis_alerts(job: str) -> tuple[Alert, ...]:
    of = _of(job)
    return (
        Alert(
            "RedisMemoryNearlyFull",
            f"redis_memory_used_bytes{of} / (redis_memory_max_bytes{of} > 0) > 0.9",
            "Redis at {{ $labels.instance }} has used {{ $value | humanizePercentage }} of its "
            "memory: a store is about to refuse writes.",
            hold_seconds=300,
        ),
        Alert(
            "RedisRefusesConnections",
            f"increase(redis_rejected_connections_total{of}[5m]) > 0",
            "Redis at {{ $labels.instance }} refuses connections: maxclients is reached.",
            hold_seconds=0,
        ),
        Alert(
            "RedisCannotSave",
            f"redis_aof_last_write_status{of} == 0",
            "Redis at {{ $labels.instance }} cannot write its append-only file.",
            hold_seconds=0,
            severity="critical",
        ),
    )


def _redis_panels(job: str) -> tuple[Panel, ...]:
    of = _of(job)
    return (
        Panel(
            "Commands",
            {"{{instance}}": f"rate(redis_commands_processed_total{of}[1m])"},
            "ops",
        ),
        Panel(
            "Memory",
            {
                "used {{instance}}": f"redis_memory_used_bytes{of}",
                "most {{instance}}": f"redis_memory_max_bytes{of}",
            },
            "bytes",
        ),
        Panel("Clients", {"{{instance}}": f"redis_connected_clients{of}"}),
        Panel(
            "Hits of all reads",
            {
                "{{instance}}": f"rate(redis_keyspace_hits_total{of}[5m]) / "
                f"(rate(redis_keyspace_hits_total{of}[5m]) + "
                f"rate(redis_keyspace_misses_total{of}[5m]))"
            },
            "percentunit",
        ),
        Panel(
            "Keys thrown out and expired",
            {
                "evicted {{instance}}": f"rate(redis_evicted_keys_total{of}[1m])",
                "expired {{instance}}": f"rate(redis_expired_keys_total{of}[1m])",
            },
            "ops",
        ),
        Panel("Slow commands in the log", {"{{instance}}": f"redis_slowlog_length{of}"}),
    )


def _memcached_alerts(job: str) -> tuple[Alert, ...]:
    of = _of(job)
    return (
        Alert(
            "MemcachedConnectionsNearlyUsedUp",
            f"memcached_current_connections{of} / memcached_max_connections{of} > 0.9",
            "memcached at {{ $labels.instance }} has used {{ $value | humanizePercentage }} of its "
            "connections.",
        ),
    )


def _memcached_panels(job: str) -> tuple[Panel, ...]:
    of = _of(job)
    return (
        Panel(
            "Commands",
            {
                "{{command}} {{status}}": "sum by (command, status) "
                f"(rate(memcached_commands_total{of}[1m]))"
            },
            "ops",
        ),
        Panel(
            "Memory",
            {
                "items {{instance}}": f"memcached_current_bytes{of}",
                "most {{instance}}": f"memcached_limit_bytes{of}",
            },
            "bytes",
        ),
        Panel("Items thrown out", {"{{instance}}": f"rate(memcached_items_evicted_total{of}[1m])"}),
    )


def _nginx_alerts(job: str) -> tuple[Alert, ...]:
    of = _of(job)
    return (
        Alert(
            "NginxDropsConnections",
            f"increase(nginx_connections_accepted{of}[5m]) - "
            f"increase(nginx_connections_handled{of}[5m]) > 0",
            "nginx at {{ $labels.instance }} drops connections: worker_connections are used up.",
            hold_seconds=0,
        ),
    )


def _nginx_panels(job: str) -> tuple[Panel, ...]:
    of = _of(job)
    return (
        Panel("Requests", {"{{instance}}": f"rate(nginx_http_requests_total{of}[1m])"}, "reqps"),
        Panel(
            "Connections",
            {
                "active {{instance}}": f"nginx_connections_active{of}",
                "waiting {{instance}}": f"nginx_connections_waiting{of}",
            },
        ),
    )


def _twemproxy_alerts(job: str) -> tuple[Alert, ...]:
    of = _of(job)
    return (
        Alert(
            "TwemproxyServerLeftOut",
            f"increase(twemproxy_server_ejects_total{of}[5m]) > 0",
            "twemproxy at {{ $labels.instance }} leaves a server of {{ $labels.pool }} out.",
            hold_seconds=0,
        ),
        Alert(
            "TwemproxyForwardErrors",
            f"rate(twemproxy_forward_errors_total{of}[5m]) > 0",
            "twemproxy at {{ $labels.instance }} cannot forward commands of {{ $labels.pool }}.",
        ),
    )


def _twemproxy_panels(job: str) -> tuple[Panel, ...]:
    of = _of(job)
    return (
        Panel(
            "Commands by server",
            {"{{server}}": f"sum by (server) (rate(twemproxy_server_requests_total{of}[1m]))"},
            "ops",
        ),
        Panel(
            "Failures",
            {
                "errors {{server}}": f"rate(twemproxy_server_errors_total{of}[1m])",
                "timeouts {{server}}": f"rate(twemproxy_server_timeouts_total{of}[1m])",
                "forwarding {{pool}}": f"rate(twemproxy_forward_errors_total{of}[1m])",
            },
            "ops",
        ),
        Panel("Queue", {"{{server}}": f"twemproxy_server_out_queue{of}"}),
    )


KINDS: Mapping[str, MetricKind] = {
    kind.name: kind
    for kind in (
        MetricKind(
            "redis",
            "Redis",
            9121,
            Reach.local(6379, app_protocol="redis"),
            _redis_alerts,
            _redis_panels,
        ),
        MetricKind(
            "memcached",
            "memcached",
            9150,
            Reach.local(11211, app_protocol="memcached"),
            _memcached_alerts,
            _memcached_panels,
        ),
        MetricKind(
            "nginx",
            "nginx",
            9113,
            Reach.local(8081, path="/stub_status", app_protocol="http"),
            _nginx_alerts,
            _nginx_panels,
        ),
        MetricKind(
            "twemproxy",
            "twemproxy",
            9151,
            Reach.local(22222),
            _twemproxy_alerts,
            _twemproxy_panels,
        ),
    )
}
"""The programs by their names, which are also the prefixes of their metrics."""
