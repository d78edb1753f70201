"""Topologies: where a sharded store keeps its keys, for proxies, ambassadors and tests."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from dds_patterns.arguments import DISTINCT, NOT_EMPTY, check_fields, matching, one_of
from dds_patterns.sharding import DEFAULT_HASH, HASHES, Ring
from dds_patterns.sharding.ketama import LONGEST_NAME

ShardName = Annotated[
    str,
    matching(
        r"[A-Za-z0-9]([-._:A-Za-z0-9]*[A-Za-z0-9])?",
        "letters, digits and -._: between them, such as shard-0",
        most=LONGEST_NAME,
        odd=("a b", "a\n  - evil:1:1", "#1", "a:", "-a", "a'", '"a', "{a}", "a,b", "ä", "*a"),
    ),
]
"""Name of a shard, written unquoted to the files of proxies."""
HashTag = Annotated[
    str,
    matching(
        r"([!#-\[\]-~]{2})?",
        "two printable characters such as {}, not quotes, backslashes or blanks, or empty",
        odd=("{", "{}}", '""', "{ ", "{\\", "{\n", "ää"),
    ),
]
"""The characters that enclose the hashed part of a key."""


@dataclass(frozen=True)
class Topology:
    """The shards of one store, in the order of the endpoints of its ``reach``."""

    GIVEN_BY: ClassVar[str] = "store.reach.topology"

    shards: Annotated[tuple[ShardName, ...], NOT_EMPTY, DISTINCT]
    """Names of the shards, which place them on the ring and stay when their hosts change."""
    hash: Annotated[str, one_of(*HASHES)] = DEFAULT_HASH
    """Key hash, as twemproxy calls it. All proxies of the store must agree on it, or they look for
    a key on different shards."""
    hash_tag: HashTag = ""
    """Only the part of a key between these two characters is hashed, so that keys with the same
    part share a shard; empty for none."""

    def __post_init__(self) -> None:
        check_fields("Topology", self)

    def ring(self) -> Ring:
        """The ring that maps keys to shards."""
        return Ring(self.shards, self.hash, self.hash_tag)
