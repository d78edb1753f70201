"""The consistent-hash ring of twemproxy: 160 points a server, taken from md5 of its name."""

import bisect
import hashlib
import math
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache

from dds_patterns.sharding.hashes import HASHES

POINTS_PER_SERVER = 160
RING = 2**32
LONGEST_NAME = 261
"""Longest server name, in bytes, that twemproxy hashes without cutting it."""


def _single(value: float) -> float:
    """Rounded to C's ``float``."""
    (rounded,) = struct.unpack("f", struct.pack("f", value))
    return float(rounded)


def points_per_server(servers: int) -> int:
    """Points each of ``servers`` equally weighted servers has.

    160, except where twemproxy's single-precision arithmetic falls just short of 40 hashes and
    gives every server four points less.
    """
    share = _single(1.0 / servers)
    hashes = _single(_single(_single(share * POINTS_PER_SERVER) / 4) * servers)
    return math.floor(_single(hashes + 0.0000000001)) * 4


@lru_cache(maxsize=4096)
def points(name: str, count: int = POINTS_PER_SERVER) -> tuple[int, ...]:
    """Places of the server ``name`` on the ring, in the order twemproxy makes them."""
    found: list[int] = []
    for index in range(count // 4):
        digest = hashlib.md5(f"{name}-{index}".encode(), usedforsecurity=False).digest()
        found.extend(struct.unpack("<4I", digest))
    return tuple(found)


class Ring:
    """The mapping of keys to the given server names, in the order of the configuration.

    ``hash_tag`` is two characters: with ``"{}"`` only what stands between the first ``{`` and the
    next ``}`` is hashed, so that keys with the same tag share a shard.
    """

    def __init__(self, names: Sequence[str], hash_name: str, hash_tag: str = "") -> None:
        self.names = tuple(names)
        self.hash_name = hash_name
        self._key_hash = HASHES[hash_name]
        self._tag = hash_tag.encode()
        count = points_per_server(len(self.names))
        placed = sorted(
            (point, index) for index, name in enumerate(self.names) for point in points(name, count)
        )
        self._points = [point for point, _ in placed]
        self._owners = [index for _, index in placed]

    def position(self, key: str | bytes) -> int:
        """Place of the key on the ring, 0 to 2**32 - 1."""
        return self._key_hash(self._hashed_part(key.encode() if isinstance(key, str) else key))

    def index(self, key: str | bytes) -> int:
        """Index of the server that holds the key."""
        if len(self.names) == 1:
            return 0
        place = bisect.bisect_left(self._points, self.position(key))
        return self._owners[place % len(self._owners)]

    def counts(self, keys: Iterable[str | bytes]) -> list[int]:
        """Number of the keys that each server holds."""
        found = [0] * len(self.names)
        for key in keys:
            found[self.index(key)] += 1
        return found

    def shares(self) -> tuple[float, ...]:
        """Fraction of the ring that each server owns; keys follow it if the hash is uniform."""
        owned = [0] * len(self.names)
        previous = self._points[-1] - RING
        for point, owner in zip(self._points, self._owners, strict=True):
            owned[owner] += point - previous
            previous = point
        return tuple(arc / RING for arc in owned)

    def has_collisions(self) -> bool:
        """Whether two points coincide: which of the two servers then wins is not defined."""
        return len(set(self._points)) < len(self._points)

    def moved(self, other: "Ring") -> float:
        """Fraction of the ring whose server has another name in ``other``."""
        cuts = sorted({*self._points, *other._points})  # noqa: SLF001 (the same class)
        moved = 0
        previous = cuts[-1] - RING
        for cut in cuts:
            if self.owner_of(cut) != other.owner_of(cut):
                moved += cut - previous
            previous = cut
        return moved / RING

    def owner_of(self, position: int) -> str:
        """Name of the server that owns a place on the ring."""
        place = bisect.bisect_left(self._points, position)
        return self.names[self._owners[place % len(self._owners)]]

    def _hashed_part(self, key: bytes) -> bytes:
        if self._tag:
            start = key.find(self._tag[:1])
            end = key.find(self._tag[1:], start + 1) if start >= 0 else -1
            if end - start > 1:
                return key[start + 1 : end]
        return key
