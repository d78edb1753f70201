"""A composition's settings from the stack's configuration, all read and checked first."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any

import pulumi
from pulumi.runtime import config as pulumi_config

from dds_patterns import NetworkArgs
from dds_patterns.arguments import (
    Certificates,
    Constraint,
    Declared,
    DnsLabel,
    Endpoint,
    Image,
    Percent,
    Place,
    Registry,
    ServerName,
    arguments_of,
    between,
    dns_label,
    nearest,
    one_of,
    resolved_value,
)

_WHERE = "Configuration"
_NAMESPACE = "dds"
_CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
_FIRST_PORT = 20000
_PORT_PAIRS = 5000
# They end below the kernel's ephemeral ports.
_TOPZ_PORTS = 2500
# 0 is derived from the checkout's path.
_Port = Annotated[
    int,
    Constraint(
        "0, or from 1024 to 65535",
        lambda port: port == 0 or 1024 <= port <= 65535,  # noqa: PLR2004 (the ports)
        (-1, 80, 65536),
    ),
]
_ENTRIES = 'must be an array of "name=reference"'
# Environment variables for settings that the configuration does not have.
_VARIABLES = {
    "kubecontext": "KUBECONTEXT",
    "node_image": "DDS_NODE_IMAGE",
    "registry_image": "DDS_REGISTRY_IMAGE",
}


def instance_of(checkout: pathlib.Path) -> str:
    """A name that makes this checkout's container names unique on the machine."""
    return f"dds-{_mark(checkout)}"


def ports_of(checkout: pathlib.Path) -> tuple[int, int]:
    """Ports on 127.0.0.1 of the registry and the API server of a checkout's cluster."""
    first = _FIRST_PORT + 2 * (int(_mark(checkout), 16) % _PORT_PAIRS)
    return first, first + 1


def topz_port_of(checkout: pathlib.Path) -> int:
    """Port on 127.0.0.1 of the composition ``topz``."""
    return _FIRST_PORT + 2 * _PORT_PAIRS + int(_mark(checkout), 16) % _TOPZ_PORTS


def _mark(checkout: pathlib.Path) -> str:
    return hashlib.sha256(os.path.realpath(checkout).encode()).hexdigest()[:6]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Configuration of a stack. The keys are ``dds:<field>``; all have a default."""

    composition: str
    """Which composition to deploy. Defaults to the stack's name."""
    kubecontext: str | None = None
    """An existing kubectl context to deploy to. Defaults to the environment's KUBECONTEXT, and
    without that to the project's own cluster (stack ``cluster``)."""
    registry: Registry | None = None
    """Registry for the images, host:port. Defaults to the project's cluster's own."""
    agents: Annotated[int, between(0, 16)] = 1
    """Nodes of the cluster beside the server."""
    node_image: Image | None = None
    """Image of the cluster's nodes. Defaults to the environment's DDS_NODE_IMAGE, and without
    that to the one that Cluster pins."""
    registry_image: Image | None = None
    """Image of the cluster's registry. Defaults to the environment's DDS_REGISTRY_IMAGE, and
    without that to the one that Cluster pins."""
    api_port: _Port = 0
    """Port of the API server on 127.0.0.1. 0 is derived from the checkout's path."""
    registry_port: _Port = 0
    """Port of the registry on 127.0.0.1. 0 is derived from the checkout's path."""
    instance: Annotated[str, dns_label(49)] = ""
    """Prefix of the names of the cluster's containers. By default derived likewise."""
    images: Mapping[DnsLabel, Image] = dataclasses.field(default_factory=dict)
    """Images that replace the project's own, by name; an array of ``name=reference``."""
    network: NetworkArgs = dataclasses.field(default_factory=NetworkArgs)
    """Location of the cluster's DNS and API server; components read it themselves."""
    shards: Annotated[int, between(1, 64)] = 3
    """Shards of the store in ``ambassadors``."""
    role: Annotated[str, one_of("cache", "store")] = "cache"
    """``cache`` (a dead shard is ejected) or ``store`` (requests for a dead shard's keys fail)."""
    policy: Annotated[str, one_of("default", "seed")] = "default"
    """``default``, or ``seed`` for the book's own proxy settings with their lost write."""
    persistence: bool | None = None
    """Whether the shards of a ``store`` write to persistent volumes. By default they do."""
    backend: Annotated[str, one_of("etcd", "lease")] = "etcd"
    """The store of ``election``: ``etcd``, or ``lease`` for a Kubernetes Lease."""
    members: Annotated[
        int, Constraint("1, 3 or 5", lambda number: number in (1, 3, 5), (0, 2, 4, 7))
    ] = 3
    """Members of the etcd cluster in ``election``."""
    ttl_seconds: Annotated[int, between(2, 3600)] = 5
    """Seconds without a renewal after which a leader in ``election`` loses its lease."""
    fenced: bool = True
    """Whether the store in ``election`` refuses older fencing tokens; otherwise a late write can
    overwrite newer ones."""
    percent: Percent = 10
    """Share of the users in the experiment of ``experiments``."""
    database: Endpoint = ""
    """``host:port`` of a Redis outside, or of a Service of another namespace, for ``experiments``.
    By default one is deployed in the cluster."""
    database_tls: bool = False
    """Whether to connect to that Redis over TLS, and verify its certificate."""
    database_server_name: ServerName = ""
    """Name that its certificate must have. Defaults to the host of ``database``."""
    database_authority: Certificates = ""
    """Certificates of the trusted authorities, PEM. By default the public ones."""
    topz_port: _Port = 0
    """Port of the composition ``topz`` on 127.0.0.1. 0 is derived from the checkout's path."""
    scrape_interval_seconds: Annotated[int, between(1, 300)] = 5
    """Seconds between two scrapes of Prometheus in ``adapters``."""
    slow_command_ms: Annotated[int, between(0, 3_600_000)] = 10
    """Threshold in milliseconds of the slow logs in ``adapters``."""
    certificate_generation: Annotated[int, between(1, 1_000_000)] = 1
    """A changed number rotates the certificate in ``sidecars``."""
    on_failure: Annotated[str, one_of("closed", "open")] = "closed"
    """What happens to a request whose decorator fails, in ``functions``."""
    min_scale: Annotated[int, between(0, 1000)] = 1
    """Minimum number of pods of the decorator in ``functions``."""
    max_scale: Annotated[int, between(1, 1000)] = 3
    """Maximum number of pods of it."""
    given: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """Keys that the configuration sets to another value than their default."""

    @classmethod
    def load(cls) -> "Settings":
        """Read the configuration of the running stack, and check every key.

        :raises InputError: an unknown key, an invalid value
        """
        configured = _configured()
        for key in configured:
            if key not in KEYS:
                Place(_WHERE).unknown(f"{_NAMESPACE}:{key}", nearest(key, KEYS))
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        given: list[str] = []
        for key, declared in KEYS.items():
            if text := configured.get(key):
                parsed = _parsed(key, declared, text)
                # An empty object or array, as in the project's file, counts as not given.
                if parsed in ([], {}):
                    continue
                values[key] = resolved_value(place(key), declared, parsed)
                if values[key] != defaults[key]:
                    given.append(key)
            elif text := os.environ.get(_VARIABLES.get(key, "")):
                values[key] = resolved_value(Place("Environment", _VARIABLES[key]), declared, text)
        registry_port, api_port = ports_of(_CHECKOUT)
        worked_out = {
            "composition": pulumi.get_stack(),
            "registry_port": registry_port,
            "api_port": api_port,
            "instance": instance_of(_CHECKOUT),
            "topz_port": topz_port_of(_CHECKOUT),
        }
        for key, value in worked_out.items():
            values[key] = values.get(key) or value
        return cls(**values, given=tuple(given))


KEYS: Mapping[str, Declared] = {
    key: declared for key, declared in arguments_of(Settings).items() if key != "given"
}
"""Type and constraints of each configuration key."""


def place(key: str) -> Place:
    """The place of a key, for error messages."""
    name = f"{_NAMESPACE}:{key}"
    return Place(_WHERE, name, secret=pulumi_config.is_config_secret(name))


def _configured() -> dict[str, str]:
    # pulumi.Config reads single keys only; these are its two sources.
    everything: dict[str, Any] = {
        **pulumi_config.get_config_env(),
        **pulumi_config.CONFIG.get(),
    }
    prefix = f"{_NAMESPACE}:"
    return {
        key.removeprefix(prefix): text
        for key, text in sorted(everything.items())
        if key.startswith(prefix)
    }


def _parsed(key: str, declared: Declared, text: str) -> Any:
    """The parsed text of the engine; unparsable text is returned for the declaration to refuse."""
    if declared.form == "mapping":
        return _entries(place(key), text)
    if declared.type is str:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _entries(at: Place, text: str) -> dict[str, str]:
    try:
        entries = json.loads(text)
    except ValueError:
        entries = None
    if not isinstance(entries, list):
        at.refuse(text, _ENTRIES)
    images: dict[str, str] = {}
    for position, entry in enumerate(entries):
        name, separator, reference = entry.partition("=") if isinstance(entry, str) else ("",) * 3
        if not separator or not name:
            at.entry(position).refuse(entry, 'must have the form "name=reference"')
        if name in images:
            at.entry(position).refuse(entry, f"must be unique, {name} is listed twice")
        images[name] = reference
    return images
