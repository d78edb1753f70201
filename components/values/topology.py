"""Topologies: what a sharded store tells its proxies, ambassadors and tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from components.arguments.errors import InputError
from components.values import checks
from components.values.ring import DEFAULT_HASH, HASHES

PROTOCOLS = ("redis", "memcached", "http")


@dataclass(frozen=True)
class Shard:
    """One shard. Its name places it on the ring and stays when the host changes."""

    name: str
    """Stable name on the ring."""
    host: str
    """DNS name."""
    port: int
    """TCP port."""

    def __post_init__(self) -> None:
        for argument, value in (("name", self.name), ("host", self.host)):
            if not value or any(c.isspace() for c in value):
                raise InputError("Shard", argument, value, "must be a word without blanks")
        checks.port("Shard", "port", self.port)


@dataclass(frozen=True)
class Topology:
    """The shards of one store, in order."""

    name: str
    """The store's name."""
    shards: tuple[Shard, ...]
    """At least one, with different names and different addresses."""
    protocol: str
    """``redis``, ``memcached`` or ``http``."""
    client_label: tuple[str, str]
    """Pods with this label are let in by the servers' NetworkPolicy."""
    server_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that select the servers' pods."""
    hash: str = DEFAULT_HASH
    """Key hash, as twemproxy calls it. It belongs to the store: proxies that differ in it look for
    a key on different shards."""
    hash_tag: str = ""
    """Two characters, for example ``{}``: only what stands between them in a key is hashed, so
    that such keys share a shard. Empty for none."""

    def __post_init__(self) -> None:
        where = f'Topology "{self.name}"'
        if not self.shards:
            raise InputError(where, "shards", self.shards, "must have at least one shard")
        checks.one_of(where, "protocol", self.protocol, PROTOCOLS)
        if self.hash not in HASHES:
            raise InputError(where, "hash", self.hash, f"must be one of {', '.join(HASHES)}")
        if self.hash_tag and (not _is_pair(self.hash_tag)):
            raise InputError(
                where, "hash_tag", self.hash_tag, "must be two characters such as {}, or empty"
            )
        names: set[str] = set()
        addresses: dict[tuple[str, int], str] = {}
        for shard in self.shards:
            if shard.name in names:
                raise InputError(
                    where, "shards", shard.name, "must have different names, two have this one"
                )
            names.add(shard.name)
            address = (shard.host, shard.port)
            if address in addresses:
                raise InputError(
                    where,
                    "shards",
                    f"{shard.host}:{shard.port}",
                    f"must have different addresses, {addresses[address]} and {shard.name} have "
                    "this one",
                )
            addresses[address] = shard.name


def _is_pair(text: str) -> bool:
    return (
        len(text) == len("{}")
        and text.isascii()
        and text.isprintable()
        and not any(c in ' "\\' for c in text)
    )
