"""Everything that a composition takes from the stack's configuration, read once."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pulumi
from pulumi.runtime import config as pulumi_config

from components.values import checks
from components.values.endpoint import Endpoint
from components.arguments.errors import InputError, UnknownArgumentError

_WHERE = "Configuration"
_NAMESPACE = "dds"
_CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
_FIRST_PORT = 20000
_PORT_PAIRS = 5000
# Up to where the kernel chooses ports by itself.
_TOPZ_PORTS = 2500


def instance_of(checkout: pathlib.Path) -> str:
    """The name that keeps one checkout's containers apart from another's on the same machine."""
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
    registry: str | None = None
    """Registry for the images, host:port. Defaults to the project's cluster's own."""
    agents: int = 1
    """Nodes of the cluster beside the server, from 0."""
    node_image: str | None = None
    """Image of the cluster's nodes. Defaults to the environment's DDS_NODE_IMAGE, and without
    that to the one that Cluster pins."""
    registry_image: str | None = None
    """Image of the cluster's registry. Defaults to the environment's DDS_REGISTRY_IMAGE, and
    without that to the one that Cluster pins."""
    api_port: int = 0
    """Port of the API server on 127.0.0.1. By default computed from the checkout's path."""
    registry_port: int = 0
    """Port of the registry on 127.0.0.1. By default computed from the checkout's path."""
    instance: str = ""
    """First part of the names of the cluster's containers. By default computed likewise."""
    images: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Images that replace the project's own, by name; an array of ``name=reference``."""
    shards: int = 3
    """Shards of the store in ``ambassadors``, from 1 to 64."""
    role: str = "cache"
    """``cache`` (a dead shard is ejected) or ``store`` (a dead shard's keys answer errors)."""
    policy: str = "default"
    """``default``, or ``seed`` for the book's own proxy settings with their lost write."""
    persistence: bool | None = None
    """Whether the shards write to persistent volumes. By default the store decides: yes for
    ``store``."""
    backend: str = "etcd"
    """Where ``election`` keeps who leads: ``etcd``, or ``lease`` for a Kubernetes Lease."""
    members: int = 3
    """Members of the etcd cluster in ``election``: 1, 3 or 5."""
    ttl_seconds: int = 5
    """Seconds after which a leader in ``election`` that is not heard of has lost, from 2."""
    fenced: bool = True
    """Whether the store in ``election`` refuses older tokens; without, a late write is seen to
    undo others."""
    percent: float = 10
    """Share of the users in the experiment of ``experiments``, from 0 to 100."""
    database: str = ""
    """``host:port`` of a Redis outside for ``experiments``. By default one in the cluster is made."""
    database_tls: bool = False
    """Whether that Redis is spoken to over TLS, its certificate verified."""
    database_server_name: str = ""
    """Name that its certificate must have. Defaults to the host of ``database``."""
    database_authority: str = ""
    """Certificates of the authorities that are believed, PEM. By default the public ones."""
    topz_port: int = 0
    """Port of the composition ``topz`` on 127.0.0.1. By default computed from the checkout's path."""
    scrape_interval: int = 5
    """Seconds between two scrapes of Prometheus in ``adapters``, from 1 to 300."""
    slow_ms: int = 10
    """Milliseconds from which on a command or query is logged as slow in ``adapters``, from 0."""
    certificate_generation: int = 1
    """Another number rotates the certificate in ``sidecars``, from 1."""
    on_failure: str = "closed"
    """What becomes of a request whose decorator fails, in ``functions``: ``closed`` or ``open``."""
    min_scale: int = 1
    """Fewest pods of the decorator in ``functions``, from 0 to 100."""
    max_scale: int = 3
    """Most pods of it, from 1 to 100."""

    @classmethod
    def load(cls) -> "Settings":
        """Read the configuration of the running stack; refuse a key that is not known."""
        fields = {field.name for field in dataclasses.fields(cls)}
        for key in _configured_keys():
            if key not in fields:
                raise UnknownArgumentError(
                    _WHERE, f"{_NAMESPACE}:{key}", checks.nearest(key, fields)
                )

        config = pulumi.Config(_NAMESPACE)
        registry_port, api_port = ports_of(_CHECKOUT)
        return cls(
            composition=config.get("composition") or pulumi.get_stack(),
            kubecontext=config.get("kubecontext") or os.environ.get("KUBECONTEXT") or None,
            registry=config.get("registry") or None,
            agents=_whole(config, "agents", 1, 0, 16),
            node_image=_image(config, "node_image", "DDS_NODE_IMAGE"),
            registry_image=_image(config, "registry_image", "DDS_REGISTRY_IMAGE"),
            api_port=_whole(config, "api_port", 0, 0, 65535) or api_port,
            registry_port=_whole(config, "registry_port", 0, 0, 65535) or registry_port,
            instance=checks.dns_label(
                _WHERE, "dds:instance", config.get("instance") or instance_of(_CHECKOUT), reserve=16
            ),
            images=_images(config),
            shards=_whole(config, "shards", 3, 1, 64),
            role=_word(config, "role", "cache", ("cache", "store")),
            policy=_word(config, "policy", "default", ("default", "seed")),
            persistence=_truth(config, "persistence"),
            backend=_word(config, "backend", "etcd", ("etcd", "lease")),
            members=_whole(config, "members", 3, 1, 5),
            ttl_seconds=_whole(config, "ttl_seconds", 5, 2, 3600),
            fenced=_truth(config, "fenced") is not False,
            percent=_percent(config),
            database=_endpoint(config, "database"),
            database_tls=_truth(config, "database_tls") is True,
            database_server_name=config.get("database_server_name") or "",
            database_authority=config.get("database_authority") or "",
            topz_port=_whole(config, "topz_port", 0, 0, 65535) or topz_port_of(_CHECKOUT),
            scrape_interval=_whole(config, "scrape_interval", 5, 1, 300),
            slow_ms=_whole(config, "slow_ms", 10, 0, 3_600_000),
            certificate_generation=_whole(config, "certificate_generation", 1, 1, 1_000_000),
            on_failure=_word(config, "on_failure", "closed", ("closed", "open")),
            min_scale=_whole(config, "min_scale", 1, 0, 100),
            max_scale=_whole(config, "max_scale", 3, 1, 100),
        )


def _configured_keys() -> list[str]:
    # pulumi.Config reads single keys only; the two places it reads them from are these.
    everything: dict[str, Any] = {
        **pulumi_config.get_config_env(),
        **pulumi_config.CONFIG.get(),
    }
    prefix = f"{_NAMESPACE}:"
    return sorted(key.removeprefix(prefix) for key in everything if key.startswith(prefix))


def _read(config: pulumi.Config, key: str, parse: Callable[[str], Any], expected: str) -> Any:
    text = config.get(key)
    if text is None or text == "":
        return None
    try:
        return parse(text)
    except (ValueError, KeyError):
        raise InputError(_WHERE, f"{_NAMESPACE}:{key}", text, expected) from None


def _whole(config: pulumi.Config, key: str, default: int, minimum: int, maximum: int) -> int:
    value = _read(config, key, int, "must be a whole number")
    return checks.integer(
        _WHERE,
        f"{_NAMESPACE}:{key}",
        default if value is None else value,
        minimum=minimum,
        maximum=maximum,
    )


def _truth(config: pulumi.Config, key: str) -> bool | None:
    value = _read(
        config, key, lambda text: {"true": True, "false": False}[text], "must be true or false"
    )
    return None if value is None else bool(value)


def _word(config: pulumi.Config, key: str, default: str, choices: tuple[str, ...]) -> str:
    return checks.one_of(_WHERE, f"{_NAMESPACE}:{key}", config.get(key) or default, choices)


def _percent(config: pulumi.Config) -> float:
    value = _read(config, "percent", float, "must be a number")
    return checks.percentage(_WHERE, f"{_NAMESPACE}:percent", 10 if value is None else value)


def _endpoint(config: pulumi.Config, key: str) -> str:
    text = config.get(key) or ""
    return str(Endpoint.parse(_WHERE, f"{_NAMESPACE}:{key}", text)) if text else ""


def _image(config: pulumi.Config, key: str, variable: str) -> str | None:
    configured = config.get(key)
    if configured:
        return checks.image_reference(_WHERE, f"{_NAMESPACE}:{key}", configured)
    from_environment = os.environ.get(variable)
    if from_environment:
        return checks.image_reference("Environment", variable, from_environment)
    return None


def _images(config: pulumi.Config) -> Mapping[str, str]:
    entries = _read(config, "images", json.loads, 'must be an array of "name=reference"')
    if entries is None:
        return MappingProxyType({})
    if not isinstance(entries, list):
        raise InputError(_WHERE, "dds:images", entries, 'must be an array of "name=reference"')
    images: dict[str, str] = {}
    for position, entry in enumerate(entries):
        argument = f"dds:images[{position}]"
        name, separator, reference = entry.partition("=") if isinstance(entry, str) else ("",) * 3
        if not separator or not name:
            raise InputError(_WHERE, argument, entry, 'must have the form "name=reference"')
        if name in images:
            raise InputError(_WHERE, argument, entry, f"must be unique, {name} stands twice")
        images[name] = checks.image_reference(_WHERE, argument, reference)
    return MappingProxyType(images)
