"""Node names that balance the ring, chosen one after the other.

A name is never changed when a shard is added, so that only the keys of the new shard move. Each
name is the one, among many candidates, with which the largest shard of the ring so far is smallest.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from dds_patterns.sharding.hashes import HASHES
from dds_patterns.sharding.ketama import RING, Ring, points

DEFAULT_HASH = "murmur"
"""Uniform on every key shape tried, cheap, and the same on every processor architecture."""

TABLE_CANDIDATES = 20_000
"""Candidates tried for each name in ``SALTS``."""
QUICK_CANDIDATES = 250
"""Candidates tried for each shard beyond ``SALTS``: about 50 ms a shard."""
MOST_SHARDS = 64

# Found by `python -m dds_patterns.sharding search`, which takes a few minutes.
SALTS = (
    0, 7289, 15811, 15541, 12766, 5844, 6556, 12943,
    13913, 4719, 7387, 6964, 10884, 14944, 15414, 4387,
)  # fmt: skip


@dataclass(frozen=True)
class RingPlan:
    """Node names of a ring and the shares that they lead to."""

    names: tuple[str, ...]
    """Name of each shard on the ring, in order of the shards; independent of their hosts."""
    shares: tuple[float, ...]
    """Fraction of the keys that each shard is predicted to hold; they add up to 1."""
    hash: str
    """Key hash, as twemproxy calls it."""

    @property
    def max_over_mean(self) -> float:
        """Load of the fullest shard over the mean one; 1 is perfectly even."""
        return max(self.shares) * len(self.shares)

    def ring(self, hash_tag: str = "") -> Ring:
        """The ring that maps keys to shards."""
        return Ring(self.names, self.hash, hash_tag)


def node_name(shard: int, salt: int) -> str:
    """A candidate for the name of a shard."""
    return f"shard-{shard}-{salt}"


def plan(shards: int, hash_name: str = DEFAULT_HASH) -> RingPlan:
    """The ring of so many shards, 1 to 64.

    The first names are the same for every number of shards and every hash.

    :raises ValueError: no such hash, or a number of shards outside the bounds
    """
    if not 1 <= shards <= MOST_SHARDS:
        raise ValueError(f"{shards} shards: must be from 1 to {MOST_SHARDS}")
    if hash_name not in HASHES:
        raise ValueError(f"hash {hash_name!r}: must be one of {', '.join(HASHES)}")
    names = _names(shards)
    return RingPlan(names, Ring(names, hash_name).shares(), hash_name)


@lru_cache(maxsize=256)
def moved_fraction(old: int, new: int) -> float:
    """Fraction of the keys that change their shard when ``old`` shards become ``new``."""
    return plan(old).ring().moved(plan(new).ring())


def least_moved(old: int, new: int) -> float:
    """The smallest fraction of the keys that any even placement has to move."""
    return abs(new - old) / max(new, old)


def forecast(ring_plan: RingPlan) -> list[str]:
    """Forecast as text: the share of each shard, and the keys that resharding would move."""
    count = len(ring_plan.names)
    shares = ", ".join(f"{share:.1%}" for share in ring_plan.shares)
    predicted = (
        f"Predicted share of the keys of shards 0 to {count - 1}: {shares} "
        f"(largest over mean {ring_plan.max_over_mean:.3f})"
    )
    neighbours = [other for other in (count - 1, count + 1) if 1 <= other <= MOST_SHARDS]
    moves = ", ".join(
        f"{before} to {after} shards moves {moved_fraction(before, after):.1%}"
        f" (least possible {least_moved(before, after):.1%})"
        for before, after in ((min(count, o), max(count, o)) for o in neighbours)
    )
    return [predicted, f"Keys that a changed number of shards moves, up or down: {moves}"]


def movement(old: int, new: int) -> str:
    """The keys that resharding moves, as text."""
    return (
        f"Going from {old} to {new} shards moves {moved_fraction(old, new):.1%} of the keys to "
        f"another shard (least possible {least_moved(old, new):.1%})"
    )


@lru_cache(maxsize=MOST_SHARDS)
def _names(shards: int) -> tuple[str, ...]:
    if shards <= len(SALTS):
        return tuple(node_name(shard, salt) for shard, salt in enumerate(SALTS[:shards]))
    # Cached for each number: a forecast needs one shard more and one less as well.
    names = _names(shards - 1)
    return (*names, node_name(len(names), best_salt(names, QUICK_CANDIDATES)))


def search(shards: int, candidates: int = TABLE_CANDIDATES) -> Iterator[int]:
    """The salts of the names of so many shards, one after the other. Slow on purpose."""
    names: list[str] = []
    for shard in range(shards):
        salt = best_salt(names, candidates) if names else 0
        names.append(node_name(shard, salt))
        yield salt


def best_salt(names: Sequence[str], candidates: int) -> int:
    """The first of the salts below ``candidates`` that makes the ring most even."""
    grid = Arcs(names)
    return min(range(candidates), key=lambda salt: grid.largest_with(node_name(len(names), salt)))


class Arcs:
    """A ring to which one more server is added, many times over."""

    def __init__(self, names: Sequence[str]) -> None:
        placed = sorted(
            (point, owner) for owner, name in enumerate(names) for point in points(name)
        )
        self._points = [point for point, _ in placed]
        self._owners = [owner for _, owner in placed]
        self._owned = [0] * len(names)
        previous = self._points[-1] - RING
        for point, owner in placed:
            self._owned[owner] += point - previous
            previous = point

    def largest_with(self, name: str) -> float:
        """Fraction of the ring that the largest server owns once ``name`` is there too.

        More than 1 if the new points coincide with old ones.
        """
        # Bypasses the cache: candidates would evict everything else.
        new_points = sorted(points.__wrapped__(name))
        owned = [*self._owned, 0]
        count = len(self._points)
        previous_new = new_points[-1] - RING
        for point in new_points:
            place = bisect.bisect_left(self._points, point)
            if place < count and self._points[place] == point:
                return 2.0
            before = self._points[place - 1] if place else self._points[-1] - RING
            arc = point - max(before, previous_new)
            owned[self._owners[place % count]] -= arc
            owned[-1] += arc
            previous_new = point
        return max(owned) / RING
