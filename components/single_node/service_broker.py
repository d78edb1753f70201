"""Ambassador: the application has its database at localhost, wherever that is (chapter 3).

HAProxy passes the connections on, to a Service of the cluster or to something outside, with TLS if
asked for. It watches the backend's health; while that is bad, connections end at once instead of
piling up (a circuit breaker), and it alone asks whether the backend is back.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import ContainerArgsDict, ResourceRequirementsArgsDict
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.arguments.errors import InputError
from components.pods.companion import Companion, Listener
from components.pods.probes import asked
from components.single_node import configured, scraped
from components.values import checks, resolv
from components.values.edges import Edge
from components.values.endpoint import Endpoint
from components.values.metrics import ScrapeJob

CHECKS = ("tcp", "redis")

_LOOPBACK = "127.0.0.1"
_FOLDER = "/etc/haproxy-broker"
_FILE = "haproxy.cfg"
_CA_FILE = "ca.pem"
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
# A port below needs a capability.
_PORTS = (1024, 65535)
_HOST = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?")
# HAProxy reads the name servers itself, but completes no names.
_VARIABLES = 'print "NAMESPACE=" namespace; print "CLUSTER_DOMAIN=" domain'


class BrokerTlsArgs(TypedDict):
    """How the backend is spoken to over TLS. Its certificate is always verified."""

    authority: NotRequired[pulumi.Input[str]]
    """Certificates of the authorities that are believed, PEM. Defaults to those of the image, the
    public ones."""
    server_name: NotRequired[str]
    """Name that the backend's certificate must have, and that it is asked for. Defaults to the
    endpoint's host, which must then be a name."""


class BackendArgs(TypedDict):
    """What is behind the broker."""

    endpoint: pulumi.Input[str]
    """``host:port``: of a Service, or of something outside. It need not be there yet."""
    edge: Edge
    """The connection that this is: to the pods' own port and labels, or with ``cidr`` outside."""
    tls: NotRequired[BrokerTlsArgs]
    """Speak TLS. By default the connection is passed on as it is."""


class BreakerArgs(TypedDict):
    """When the backend is taken for dead, and when for alive again."""

    failures: NotRequired[int]
    """Failed connections in a row, or failed checks, after which it is open. Defaults to 3."""
    probe_ms: NotRequired[int]
    """Milliseconds between two checks, from 100. Defaults to 1000."""
    probe_timeout_ms: NotRequired[int]
    """Milliseconds for a check's answer. Defaults to 1000."""
    recoveries: NotRequired[int]
    """Checks in a row that must succeed before it is closed again. Defaults to 2."""


class ServiceBrokerArgs(TypedDict):
    """Arguments of ServiceBroker."""

    image: pulumi.Input[str]
    """Image with HAProxy 2.4 or newer, sh and awk, with a tag or digest."""
    backend: BackendArgs
    """Where the connections go."""
    listen_port: int
    """Port on 127.0.0.1 for the application, most often the one that the backend's protocol has."""
    check: NotRequired[str]
    """What a check asks: ``tcp`` (default) for a connection, ``redis`` for an answer to PING, which
    a server that hangs does not give."""
    connect_timeout_ms: NotRequired[int]
    """Milliseconds for the backend to accept a connection. Defaults to 1000."""
    retries: NotRequired[int]
    """Tries, a second apart at most, after a connection was not accepted; the application waits.
    From 0 to 10. Defaults to 3."""
    idle_timeout_seconds: NotRequired[int]
    """Seconds without a byte either way after which a connection is closed. Defaults to 3600."""
    breaker: NotRequired[BreakerArgs]
    """The circuit breaker."""
    most_connections: NotRequired[int]
    """Connections at the same time, from 1 to 20000; more wait. Defaults to 1000."""
    status_port: NotRequired[int]
    """Port for the kubelet's probes and for Prometheus, on all addresses. Defaults to 8405."""
    scrapers: NotRequired[Sequence[Mapping[str, str]]]
    """Labels of pods of the namespace that may scrape. Defaults to those that Prometheus has here."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits; what is left out keeps the default of every container."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace of the configuration, the same as that of the pods. Defaults to the provider's."""


class ServiceBroker(pulumi.ComponentResource):
    """A HAProxy beside the application, before a backend in the cluster or outside.

    Registers its configuration (auto-named: a change rolls the pods), and a headless Service by
    which Prometheus finds every pod that has it. ``companion`` adds the rest to any workload.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    endpoint: str
    """``host:port`` for the application in the same pod: the same whatever the backend is."""
    job: ScrapeJob
    """What Prometheus scrapes: HAProxy's own metrics."""

    def __init__(
        self, name: str, args: ServiceBrokerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the configuration.

        :param name: a DNS label of at most 50 characters; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'ServiceBroker "{name}"'
        broker = _checked(where, name, args)
        super().__init__("dds:index:ServiceBroker", name, {"image": args["image"]}, opts)
        own = pulumi.ResourceOptions(parent=self)
        metadata = configured.metadata("haproxy", name, "ambassador", args.get("namespace"))
        files: dict[str, pulumi.Input[str]] = {
            _FILE: pulumi.Output.from_input(args["backend"]["endpoint"]).apply(
                lambda text: broker.configuration(
                    where, Endpoint.parse(where, "backend.endpoint", text)
                )
            )
        }
        authority = args["backend"].get("tls", {}).get("authority")
        if authority is not None:
            files[_CA_FILE] = checks.checked(authority, lambda text: _authority(where, text))
        added = configured.configured(name, _FOLDER, files, metadata=metadata, opts=own)
        self.endpoint = f"{_LOOPBACK}:{broker.listen_port}"
        self.companion = _companion(name, args, broker, added)
        self.job = _job(name, broker, metadata, own)
        self.register_outputs({"endpoint": self.endpoint})


@dataclasses.dataclass(frozen=True)
class _Broker:
    """A broker's settings, and the configuration that they make."""

    listen_port: int
    status_port: int
    check: str
    tls: bool
    server_name: str | None
    own_authority: bool
    connect_timeout: int
    retries: int
    idle_timeout: int
    failures: int
    probe: int
    probe_timeout: int
    recoveries: int
    most_connections: int
    ingress: tuple[Edge, ...]

    def configuration(self, where: str, endpoint: Endpoint) -> str:
        """HAProxy's configuration file."""
        return f"""\
# {endpoint} for the containers of this pod, at {_LOOPBACK}:{self.listen_port}. Generated.
global
  nbthread 1
  maxconn {self.most_connections + 100}
  hard-stop-after 10s
  log stdout format raw daemon notice

defaults
  log global
  timeout connect {self.connect_timeout}ms
  timeout client {self.idle_timeout}s
  timeout server {self.idle_timeout}s
  timeout check {self.probe_timeout}ms

# Names are looked up while it runs, so that it starts where there is no such name yet.
resolvers cluster
  parse-resolv-conf
  accepted_payload_size 8192
  timeout resolve 1s
  timeout retry 1s
  hold valid 5s
  # A name server that is silent or in trouble says nothing of the backend: by default its address is
  # dropped after 30 s, and its connections end. Whether it lives there is what the checks ask.
  hold timeout 24h
  hold refused 24h
  hold other 24h

frontend application
  mode tcp
  bind {_LOOPBACK}:{self.listen_port}
  maxconn {self.most_connections}
  option clitcpka
  default_backend backend

backend backend
  mode tcp
  retries {self.retries}
  option srvtcpka
{self._checks()}\
  # The circuit breaker: so many failures open it, checks alone go through, so many close it.
  default-server check inter {self.probe}ms fall {self.failures} rise {self.recoveries}
  default-server observe layer4 error-limit {self.failures} on-error mark-down
  # Whoever waits for an answer that will not come is told so.
  default-server on-marked-down shutdown-sessions
  server backend {self._address(endpoint)} resolvers cluster init-addr none{
            self._tls(where, endpoint)
        }

frontend status
  mode http
  bind :{self.status_port}
  timeout client 10s
  http-request use-service prometheus-exporter if {{ path /metrics }}
  http-request return status 200 content-type text/plain string ok if {{ path /readyz /livez }}
  http-request return status 404
"""

    def _checks(self) -> str:
        if self.check == "tcp":
            return ""
        return (
            "  option tcp-check\n"
            "  tcp-check send PING\\r\\n\n"
            "  # One that asks for a password lives as well.\n"
            '  tcp-check expect rstring "^(\\\\+PONG|-NOAUTH)"\n'
        )

    def _address(self, endpoint: Endpoint) -> str:
        host = endpoint.lookup_host("${NAMESPACE}", "${CLUSTER_DOMAIN}")
        return f'"{host}:{endpoint.port}"'

    def _tls(self, where: str, endpoint: Endpoint) -> str:
        if not self.tls:
            return ""
        name = self.server_name or endpoint.host
        if not self.server_name and re.fullmatch(r"[0-9.]+|\[.*", endpoint.host):
            raise InputError(
                where,
                "backend.tls.server_name",
                None,
                f"must be given, since {endpoint.host} is no name that a certificate has",
            )
        authority = f"{_FOLDER}/{_CA_FILE}" if self.own_authority else "@system-ca"
        return (
            f" ssl verify required ca-file {authority} verifyhost {name} "
            f"sni str({name}) check-sni {name} ssl-min-ver TLSv1.2"
        )


def _companion(
    name: str, args: ServiceBrokerArgs, broker: _Broker, files: configured.Configured
) -> Companion:
    script = (
        f"variables=$(awk '{resolv.script(_VARIABLES)}' {resolv.FILE}) && "
        'export $variables && exec haproxy -db -f "$1"'
    )
    container: ContainerArgsDict = {
        "name": name,
        "image": args["image"],
        "command": ["sh", "-c", script, "haproxy", f"{_FOLDER}/{_FILE}"],
        "volume_mounts": list(files.mounts),
        # They ask HAProxy, never the backend: a database that is gone must not take the
        # applications of a whole deployment with it.
        "startup_probe": asked("/readyz", broker.status_port, 1, 60),
        "readiness_probe": asked("/readyz", broker.status_port, 5, 2),
        "liveness_probe": asked("/livez", broker.status_port, 10, 6),
    }
    if "resources" in args:
        container["resources"] = args["resources"]
    return Companion(
        name=name,
        containers=(container,),
        listeners=(
            Listener(broker.listen_port, "broker", _LOOPBACK),
            Listener(broker.status_port, "broker-status"),
        ),
        volumes=files.volumes,
        pod_labels=scraped.labels(name),
        egress=(args["backend"]["edge"],),
        ingress=broker.ingress,
        depends_on=(files.config,),
    )


def _job(
    name: str, broker: _Broker, metadata: ObjectMetaArgsDict, opts: pulumi.ResourceOptions
) -> ScrapeJob:
    return scraped.job(name, broker.status_port, metadata, opts)


def _checked(where: str, name: str, args: ServiceBrokerArgs) -> _Broker:
    scraped.check(where, name, ServiceBrokerArgs, args)
    tls = _backend(where, args["backend"])
    breaker = args.get("breaker", {})
    checks.known_arguments(f"{where}: breaker", BreakerArgs, breaker)
    listen = checks.whole(where, args, "listen_port", 0, _PORTS)
    status = checks.whole(where, args, "status_port", 8405, _PORTS)
    checks.different(where, {"listen_port": listen, "status_port": status})
    broker = _Broker(
        listen_port=listen,
        status_port=status,
        check=checks.one_of(where, "check", args.get("check", "tcp"), CHECKS),
        tls=tls is not None,
        server_name=None if tls is None else tls.get("server_name"),
        own_authority=tls is not None and "authority" in tls,
        connect_timeout=checks.whole(where, args, "connect_timeout_ms", 1000, (1, 600_000)),
        retries=checks.whole(where, args, "retries", 3, (0, 10)),
        idle_timeout=checks.whole(where, args, "idle_timeout_seconds", 3600, (1, 604_800)),
        failures=checks.whole(where, breaker, "breaker.failures", 3, (1, 1000)),
        probe=checks.whole(where, breaker, "breaker.probe_ms", 1000, (100, 3_600_000)),
        probe_timeout=checks.whole(where, breaker, "breaker.probe_timeout_ms", 1000, (10, 600_000)),
        recoveries=checks.whole(where, breaker, "breaker.recoveries", 2, (1, 1000)),
        most_connections=checks.whole(where, args, "most_connections", 1000, (1, 20_000)),
        ingress=scraped.edges(where, status, args.get("scrapers", scraped.DEFAULT_SCRAPERS)),
    )
    endpoint = args["backend"]["endpoint"]
    if not checks.is_deferred(endpoint):
        broker.configuration(where, Endpoint.parse(where, "backend.endpoint", endpoint))
    return broker


def _backend(where: str, backend: BackendArgs) -> BrokerTlsArgs | None:
    checks.known_arguments(f"{where}: backend", BackendArgs, backend)
    if not isinstance(backend["edge"], Edge):
        raise InputError(where, "backend.edge", backend["edge"], "must be an Edge to the backend")
    tls = backend.get("tls")
    if tls is None:
        return None
    checks.known_arguments(f"{where}: backend.tls", BrokerTlsArgs, tls)
    name: Any = tls.get("server_name")
    if name is not None and (not isinstance(name, str) or not _HOST.fullmatch(name)):
        raise InputError(
            where, "backend.tls.server_name", name, "must be a name such as db.example.com"
        )
    authority = tls.get("authority")
    if authority is not None and not checks.is_deferred(authority):
        _authority(where, authority)
    return tls


def _authority(where: str, text: Any) -> str:
    if not isinstance(text, str) or _CERTIFICATE not in text or "PRIVATE KEY" in text:
        raise InputError(
            where, "backend.tls.authority", "<not shown>", f"must be PEM, with {_CERTIFICATE}"
        )
    return text
