"""Consistent hashing as in twemproxy, and node names that balance its shards (chapter 6).

It needs neither Pulumi nor a cluster. ``plan(shards)`` gives the node names and the share of each
shard; ``Ring`` maps a key to any names; ``moved_fraction(old, new)`` is the share of the keys that
resharding moves.
"""

from dds_patterns.sharding.hashes import HASHES, PORTABLE
from dds_patterns.sharding.ketama import Ring
from dds_patterns.sharding.plan import (
    DEFAULT_HASH,
    MOST_SHARDS,
    RingPlan,
    forecast,
    least_moved,
    moved_fraction,
    movement,
    plan,
)

__all__ = [
    "DEFAULT_HASH",
    "HASHES",
    "MOST_SHARDS",
    "PORTABLE",
    "Ring",
    "RingPlan",
    "forecast",
    "least_moved",
    "moved_fraction",
    "movement",
    "plan",
]
