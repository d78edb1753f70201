"""The compositions: one module each, and a table of their deploy functions and configuration keys."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from dds_patterns import InputError
from dds_patterns.arguments import nearest
from stacks import effects
from stacks.settings import Settings


@dataclass(frozen=True)
class Composition:
    """One composition."""

    deploy: Callable[[Settings], None]
    reads: tuple[str, ...] = ()
    """Keys of the configuration that it reads; every other one is refused."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Arguments of its components that are set by a key of another name, and that key."""


def _deferred(name: str) -> Callable[[Settings], None]:
    # Lazy import: a program imports only the composition that it deploys.
    def deploy(settings: Settings) -> None:
        importlib.import_module(f"stacks.{name}").deploy(settings)

    return deploy


# Keys for the cluster, its namespace and the images.
_TARGET = ("kubecontext", "registry", "images", "network")

COMPOSITIONS: Mapping[str, Composition] = MappingProxyType(
    {
        "adapters": Composition(
            _deferred("adapters"),
            (*_TARGET, "scrape_interval_seconds", "slow_command_ms"),
        ),
        "ambassadors": Composition(
            _deferred("ambassadors"), (*_TARGET, "shards", "role", "policy", "persistence")
        ),
        "cluster": Composition(
            _deferred("cluster"),
            ("instance", "agents", "api_port", "registry_port", "node_image", "registry_image"),
        ),
        "companions": Composition(_deferred("companions"), _TARGET),
        "election": Composition(
            _deferred("election"), (*_TARGET, "backend", "members", "ttl_seconds", "fenced")
        ),
        "experiments": Composition(
            _deferred("experiments"),
            (
                *_TARGET, "percent", "policy", "database", "database_tls", "database_server_name",
                "database_authority",
            ),
            {
                # Arguments of the reach that is created from them, and of the broker.
                "endpoints": "database",
                "namespace": "database",
                "authority": "database_authority",
                "tls.server_name": "database_server_name",
            },
        ),
        "functions": Composition(
            _deferred("functions"), (*_TARGET, "on_failure", "min_scale", "max_scale")
        ),
        "sidecars": Composition(
            _deferred("sidecars"),
            (*_TARGET, "certificate_generation"),
            {"generation": "certificate_generation"},
        ),
        "topz": Composition(_deferred("topz"), ("registry", "images", "instance", "topz_port")),
    }
)  # fmt: skip
"""The compositions by name."""


def deploy(settings: Settings) -> None:
    """Deploy the composition that the settings name.

    :raises InputError: an invalid setting, or one without effect, naming its key; before anything
        is registered
    """
    composition = COMPOSITIONS.get(settings.composition)
    if composition is None:
        raise InputError(
            "Composition", "dds:composition", settings.composition,
            nearest(settings.composition, COMPOSITIONS),
        )  # fmt: skip
    effects.check(settings, composition.reads)
    try:
        composition.deploy(settings)
    except InputError as error:
        key = composition.arguments.get(error.argument, error.argument)
        if key not in composition.reads:
            raise
        named = f"{error.argument} (dds:{key})"
        raise InputError(error.where, named, error.value, error.expected) from error
