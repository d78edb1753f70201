"""Ambassador: the application connects to its database at localhost, wherever it runs (chapter 3).

HAProxy proxies the connections to a Service of the cluster or a server outside, with TLS if
configured. It runs health checks on the backend; while they fail, connections fail fast instead of
piling up (a circuit breaker), and only the checks reach the backend.
"""

from typing import Annotated, NotRequired, TypedDict

import pulumi

from dds_patterns.arguments import (
    Default,
    DefaultsTo,
    InputError,
    Later,
    between,
    is_deferred,
    one_of,
    resolved,
)
from dds_patterns.arguments.addresses import ServerName, UnprivilegedPort, is_certified
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import check_name
from dds_patterns.arguments.together import different
from dds_patterns.pods.companion import LOOPBACK, Companion
from dds_patterns.pods.images import image_of
from dds_patterns.values import resolv
from dds_patterns.values.endpoint import Endpoint
from dds_patterns.values.metrics import ScrapeJob
from dds_patterns.values.reach import ONE_ENDPOINT, Reach
from dds_patterns.workloads.program import RESERVE, TEMPORARY, Program, ScrapedArgs

_FILE = "/etc/haproxy-broker/haproxy.cfg"
_CA_FILE = "/etc/haproxy-broker/ca.pem"
# HAProxy reads the name servers itself, but applies no search domains.
_VARIABLES = 'print "NAMESPACE=" namespace; print "CLUSTER_DOMAIN=" domain'


class BrokerTlsArgs(TypedDict):
    """TLS to the backend.

    Its certificate is always verified, with its reach's ``authority`` or the image's public
    authorities.
    """

    server_name: NotRequired[
        Annotated[
            ServerName, DefaultsTo("the host of the backend's endpoint, which must then be a name")
        ]
    ]
    """Name that the backend's certificate must have; also sent as SNI."""


class BreakerArgs(TypedDict):
    """When the circuit breaker opens and closes."""

    failures: NotRequired[Annotated[int, between(1, 1000), Default(3)]]
    """Failed connections in a row, or failed checks, after which it opens."""
    probe_ms: NotRequired[Annotated[int, between(100, 3_600_000), Default(1000)]]
    """Milliseconds between two health checks."""
    probe_timeout_ms: NotRequired[Annotated[int, between(10, 600_000), Default(1000)]]
    """Timeout of a health check, in milliseconds."""
    recoveries: NotRequired[Annotated[int, between(1, 1000), Default(2)]]
    """Successful checks in a row after which it closes."""


class ServiceBrokerArgs(ScrapedArgs):
    """Arguments of ServiceBroker."""

    image: NotRequired[Annotated[Later[Image], image_of("haproxy")]]
    """Image with HAProxy 2.4 or newer, sh and awk."""
    backend: Annotated[Reach, ONE_ENDPOINT]
    """Where the connections go: ``application.reach``, or ``Reach.outside(...)``. Bytes are passed
    through unchanged, so authentication is up to the application."""
    tls: NotRequired[BrokerTlsArgs]
    """Use TLS; ``{}`` is TLS with the defaults. Without it connections are passed through
    unchanged."""
    listen_port: UnprivilegedPort
    """Port on 127.0.0.1 for the application, most often the default port of the backend's
    protocol."""
    check: NotRequired[Annotated[str, one_of("tcp", "redis"), Default("tcp")]]
    """Type of the health check: ``tcp`` opens a connection, ``redis`` expects a reply to PING,
    which detects a server that hangs, too."""
    connect_timeout_ms: NotRequired[Annotated[int, between(1, 600_000), Default(1000)]]
    """Milliseconds for the backend to accept a connection."""
    retries: NotRequired[Annotated[int, between(0, 10), Default(3)]]
    """Retries, at most a second apart, of a connection that is not accepted; the application
    waits."""
    idle_timeout_seconds: NotRequired[Annotated[int, between(1, 604_800), Default(3600)]]
    """Seconds without a byte in either direction after which a connection is closed."""
    breaker: NotRequired[Annotated[BreakerArgs, Default({})]]
    """The circuit breaker."""
    max_connections: NotRequired[Annotated[int, between(1, 20_000), Default(1000)]]
    """Concurrent connections; further ones wait."""
    status_port: NotRequired[Annotated[UnprivilegedPort, Default(8405)]]
    """Port for the kubelet's probes and for Prometheus, on all addresses."""


class ServiceBroker(pulumi.ComponentResource):
    """A HAProxy beside the application, in front of a backend in the cluster or outside.

    Registers its configuration (auto-named: a change rolls the pods), and a headless Service by
    which Prometheus finds every pod that has it. ``companion`` adds the rest to any workload.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    endpoint: pulumi.Output[str]
    """``host:port`` for the application in the same pod: the same whatever the backend is."""
    job: ScrapeJob
    """What Prometheus scrapes: HAProxy's own metrics."""

    def __init__(
        self, name: str, args: ServiceBrokerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the configuration.

        :param name: a DNS label of at most 50 characters; names the container
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'ServiceBroker "{name}"'
        args = _checked(where, name, args)
        super().__init__("dds:index:ServiceBroker", name, {"image": args["image"]}, opts)
        own = pulumi.ResourceOptions(parent=self)
        program = _program(where, name, args)
        self.endpoint = Reach.local(args["listen_port"]).endpoint
        self.companion = program.companion(own)
        self.job = program.job(own)
        self.register_outputs({"endpoint": self.endpoint})


_PING = """\
  option tcp-check
  tcp-check send PING\\r\\n
  # A server that requires a password is up, too.
  tcp-check expect rstring "^(\\\\+PONG|-NOAUTH)"
"""


def _configuration(where: str, args: ServiceBrokerArgs, text: str) -> str:
    """HAProxy's configuration file for the backend's resolved endpoint."""
    endpoint = Endpoint.parse(text)
    host = endpoint.lookup_host("${NAMESPACE}", "${CLUSTER_DOMAIN}")
    breaker, tls = args["breaker"], _tls(where, args, endpoint)
    return f"""\
# {endpoint} for the containers of this pod, at {LOOPBACK}:{args["listen_port"]}. Generated.
global
  nbthread 1
  maxconn {args["max_connections"] + 100}
  hard-stop-after 10s
  log stdout format raw daemon notice

defaults
  log global
  timeout connect {args["connect_timeout_ms"]}ms
  timeout client {args["idle_timeout_seconds"]}s
  timeout server {args["idle_timeout_seconds"]}s
  timeout check {breaker["probe_timeout_ms"]}ms

# Names are resolved at run time, so that HAProxy starts before the name exists.
resolvers cluster
  parse-resolv-conf
  accepted_payload_size 8192
  timeout resolve 1s
  timeout retry 1s
  hold valid 5s
  # While DNS fails, the last address stays in use: by default HAProxy drops it after 30 s and
  # closes its connections. The health checks alone decide whether the backend is up.
  hold timeout 24h
  hold refused 24h
  hold other 24h

frontend application
  mode tcp
  bind {LOOPBACK}:{args["listen_port"]}
  maxconn {args["max_connections"]}
  option clitcpka
  default_backend backend

backend backend
  mode tcp
  retries {args["retries"]}
  option srvtcpka
{_PING if args["check"] == "redis" else ""}\
  # The circuit breaker: failures (fall) open it, then only checks pass, successes (rise) close it.
  default-server check inter {breaker["probe_ms"]}ms fall {breaker["failures"]} rise {breaker["recoveries"]}
  default-server observe layer4 error-limit {breaker["failures"]} on-error mark-down
  # Connections that wait for a failed backend are closed at once.
  default-server on-marked-down shutdown-sessions
  server backend "{host}:{endpoint.port}" resolvers cluster init-addr none{tls}

frontend status
  mode http
  bind :{args["status_port"]}
  timeout client 10s
  http-request use-service prometheus-exporter if {{ path /metrics }}
  http-request return status 200 content-type text/plain string ok if {{ path /readyz /livez }}
  http-request return status 404
"""


def _tls(where: str, args: ServiceBrokerArgs, endpoint: Endpoint) -> str:
    if "tls" not in args:
        return ""
    name = args["tls"].get("server_name", endpoint.host.removesuffix("."))
    if not is_certified(name):
        raise InputError(
            where,
            "tls.server_name",
            None,
            f"must be given, since {endpoint.host} is no name that a certificate has",
        )
    authority = "@system-ca" if args["backend"].authority is None else _CA_FILE
    return (
        f" ssl verify required ca-file {authority} verifyhost {name} "
        f"sni str({name}) check-sni {name} ssl-min-ver TLSv1.2"
    )


def _program(where: str, name: str, args: ServiceBrokerArgs) -> Program:
    backend = args["backend"]
    files: dict[str, pulumi.Input[str]] = {
        _FILE: backend.endpoint.apply(lambda text: _configuration(where, args, text))
    }
    if "tls" in args and backend.authority is not None:
        files[_CA_FILE] = backend.authority
    script = (
        f"variables=$(awk '{resolv.script(_VARIABLES)}' {resolv.FILE}) && "
        'export $variables && exec haproxy -db -f "$1"'
    )
    return Program(
        where,
        name,
        application="haproxy",
        part="ambassador",
        image=args["image"],
        hosting=args["hosting"],
        command=["sh", "-c", script, "haproxy", _FILE],
        files=files,
        writable=TEMPORARY,
        ports=[
            {"name": "broker", "port": args["listen_port"], "address": LOOPBACK},
        ],
        metrics={
            "name": "broker-status",
            "port": args["status_port"],
            "clients": args["metrics_clients"],
        },
        # The probes check HAProxy, never the backend: a failed backend must not make every pod
        # unready.
        readiness={"path": "/readyz"},
        liveness={"path": "/livez"},
        reaches=(backend,),
    )


def _checked(where: str, name: str, args: ServiceBrokerArgs) -> ServiceBrokerArgs:
    check_name(where, name, reserve=RESERVE, service=True)
    args = resolved(where, ServiceBrokerArgs, args)
    different(where, args, "listen_port", "status_port")
    endpoint = args["backend"].endpoints[0]
    if not is_deferred(endpoint):
        _configuration(where, args, str(endpoint))
    return args
