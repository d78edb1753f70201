"""Topologies: what a sharded store tells its proxies, ambassadors and tests."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from components.arguments import NOT_EMPTY, InputError, check_fields, matching, one_of
from components.arguments.addresses import Host, Port
from components.arguments.constraints import Constraint
from components.arguments.names import DnsLabel, Label, Selector
from components.values.ring import DEFAULT_HASH, HASHES
from components.values.ring.ketama import LONGEST_NAME

PROTOCOLS = ("redis", "memcached", "http")

ShardName = Annotated[
    str,
    matching(
        r"[A-Za-z0-9]([-._:A-Za-z0-9]*[A-Za-z0-9])?",
        "letters, digits and -._: between them, such as shard-0",
        most=LONGEST_NAME,
        odd=("a b", "a\n  - evil:1:1", "#1", "a:", "-a", "a'", '"a', "{a}", "a,b", "ä", "*a"),
    ),
]
"""Name of a shard, which proxies put into their files as it is."""
_IN_PROXIES = Constraint(
    "a host name or IPv4 address: proxies of shards read no IPv6 address",
    lambda host: not host.startswith("["),
    ("[fd00::1]",),
)


HashTag = Annotated[
    str,
    matching(
        r"([!#-\[\]-~]{2})?",
        "two printable characters such as {}, not quotes, backslashes or blanks, or empty",
        odd=("{", "{}}", '""', "{ ", "{\\", "{\n", "ää"),
    ),
]
"""What encloses the part of a key that is hashed."""


@dataclass(frozen=True)
class Shard:
    """One shard. Its name places it on the ring and stays when the host changes."""

    name: ShardName
    """Stable name on the ring."""
    host: Annotated[Host, _IN_PROXIES]
    """DNS name."""
    port: Port
    """TCP port."""

    def __post_init__(self) -> None:
        check_fields("Shard", self)


@dataclass(frozen=True)
class Topology:
    """The shards of one store, in order."""

    GIVEN_BY: ClassVar[str] = "store.topology"

    name: DnsLabel
    """The store's name."""
    shards: Annotated[tuple[Shard, ...], NOT_EMPTY]
    """The shards, with different names and different addresses."""
    protocol: Annotated[str, one_of(*PROTOCOLS)]
    """What they speak."""
    client_label: Label
    """Pods with this label are let in by the servers' NetworkPolicy."""
    server_labels: Selector = field(default_factory=dict)
    """Labels that select the servers' pods."""
    hash: Annotated[str, one_of(*HASHES)] = DEFAULT_HASH
    """Key hash, as twemproxy calls it. It belongs to the store: proxies that differ in it look for
    a key on different shards."""
    hash_tag: HashTag = ""
    """Only what stands between these two characters in a key is hashed, so that such keys share a
    shard; empty for none."""

    def __post_init__(self) -> None:
        where = f'Topology "{self.name}"'
        check_fields(where, self)
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
