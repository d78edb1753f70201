"""Checks of settings against each other, before the first resource; one without effect is refused."""

from collections.abc import Collection
from typing import Any

from dds_patterns.arguments import is_ip_host
from stacks.settings import Settings, place

# Key, another key, and its value with which the first has no effect.
_NONE_WITH: tuple[tuple[str, str, Any], ...] = (
    ("persistence", "role", "cache"),
    ("percent", "policy", "seed"),
    ("members", "backend", "lease"),
    ("database_tls", "database", ""),
    ("database_server_name", "database", ""),
    ("database_authority", "database", ""),
    ("database_server_name", "database_tls", False),
    ("database_authority", "database_tls", False),
)


def check(settings: Settings, reads: Collection[str]) -> None:
    """Refuse keys that contradict each other, and keys without effect.

    :param reads: keys that the composition reads
    :raises InputError: naming the key
    """
    for key in settings.given:
        if key != "composition" and key not in reads:
            _without_effect(settings, key, f"in the composition {settings.composition}")
    for key, other, value in _NONE_WITH:
        if key in settings.given and getattr(settings, other) == value:
            words = f"with dds:{other} {value}" if value else f"without dds:{other}"
            _without_effect(settings, key, words)
    if settings.min_scale > settings.max_scale:
        place("min_scale").refuse(
            settings.min_scale, f"must not be above dds:max_scale, which is {settings.max_scale}"
        )
    if settings.api_port and settings.api_port == settings.registry_port:
        place("registry_port").refuse(settings.registry_port, "must differ from dds:api_port")
    host = settings.database.rpartition(":")[0]
    if settings.database_tls and is_ip_host(host) and not settings.database_server_name:
        place("database_server_name").refuse(
            None, f"must be given with dds:database_tls: {host} is not a name in a certificate"
        )


def _without_effect(settings: Settings, key: str, words: str) -> None:
    place(key).refuse(getattr(settings, key), f"has no effect {words}, leave it out")
