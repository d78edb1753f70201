"""The model of twemproxy's ring: against a real nutcracker, and what the planned names lead to."""

import ast
import bisect
import random
import time
import uuid
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dds_patterns.sharding import (
    HASHES,
    MOST_SHARDS,
    PORTABLE,
    Ring,
    least_moved,
    moved_fraction,
    plan,
)
from dds_patterns.sharding.__main__ import main
from dds_patterns.sharding.ketama import POINTS_PER_SERVER, points, points_per_server
from dds_patterns.sharding.plan import SALTS, Arcs, best_salt, node_name
from tests.unit import nutcracker

needs_nutcracker = pytest.mark.skipif(
    nutcracker.BINARY is None, reason="nutcracker is not installed (apt-get install nutcracker)"
)
EVEN = 1.03
KEYS = 98_000

shard_counts = st.integers(1, 10)
some_names = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-.:", min_size=1, max_size=20),
    min_size=1,
    max_size=6,
    unique=True,
)
some_keys = st.binary(max_size=40)


def keys_of_all_kinds() -> list[bytes]:
    """Every length up to 60, every byte but the ones that end a RESP line wrongly; tags too."""
    source = random.Random(1)
    keys = [f"key:{i:012d}".encode() for i in range(500)]
    keys += [str(uuid.UUID(int=source.getrandbits(128))).encode() for _ in range(200)]
    keys += [source.randbytes(n) for n in range(1, 60) for _ in range(6)]
    keys += [b"a{tag%d}b%d" % (i % 7, i) for i in range(100)]
    keys += [b"{}x%d" % i for i in range(20)] + [b"x{y%d" % i for i in range(20)]
    return list(dict.fromkeys(keys))


def shapes() -> Iterator[tuple[str, list[bytes]]]:
    source = random.Random(7)
    numbers = range(KEYS)
    yield "key:000000012345", [b"key:%012d" % i for i in numbers]
    yield (
        "uuid",
        [str(uuid.UUID(int=source.getrandbits(128), version=4)).encode() for _ in numbers],
    )
    yield "user:{id}:profile", [b"user:%d:profile" % i for i in numbers]
    yield "url", [b"https://example.org/catalog/%d/item-%d.html" % (i % 97, i) for i in numbers]
    yield "short number", [b"%d" % i for i in numbers]


@needs_nutcracker
@pytest.mark.parametrize("hash_name", HASHES)
@pytest.mark.parametrize("hash_tag", ["", "{}"])
def test_the_model_is_the_real_proxy_key_by_key(hash_name: str, hash_tag: str) -> None:
    names = plan(5).names
    keys = keys_of_all_kinds()
    real = nutcracker.placements(names, hash_name, keys, hash_tag)
    ring = Ring(names, hash_name, hash_tag)
    assert {key: ring.index(key) for key in keys} == real


@needs_nutcracker
def test_the_model_has_fewer_points_where_the_real_proxy_has() -> None:
    # With 25 servers twemproxy's single-precision arithmetic gives each 156 points instead of 160.
    assert points_per_server(25) == POINTS_PER_SERVER - 4
    names = [f"s-{i}" for i in range(25)]
    keys = keys_of_all_kinds()
    real = nutcracker.placements(names, "murmur", keys)
    ring = Ring(names, "murmur")
    assert {key: ring.index(key) for key in keys} == real


@needs_nutcracker
def test_the_model_knows_names_of_the_form_host_and_port() -> None:
    keys = [f"key:{i}".encode() for i in range(300)]
    names = ["sharded-redis-0.redis:6379", "sharded-redis-1.redis:6379"]
    real = nutcracker.placements(names, "fnv1a_64", keys)
    assert {key: Ring(names, "fnv1a_64").index(key) for key in keys} == real


@pytest.mark.parametrize(("shape", "keys"), shapes())
def test_planned_shards_are_even_and_a_new_one_takes_its_part_only(
    shape: str, keys: list[bytes]
) -> None:
    position = plan(1).ring().position
    places = sorted(map(position, keys))
    for shards in range(2, 10):
        held = counts(plan(shards).names, places)
        fullest = max(held) * shards / KEYS
        # The ninth is there for what it moves only.
        assert shards == 9 or fullest <= EVEN, (shape, shards, fullest)
        # What moves is what the new shard holds: that nothing else does is tested below.
        assert held[-1] * shards / KEYS <= EVEN, (shape, shards)


def counts(names: Sequence[str], places: Sequence[int]) -> list[int]:
    """Keys of each server, by cutting the sorted places of all keys at the ring's points."""
    found = [0] * len(names)
    before = 0
    placed = sorted((point, owner) for owner, name in enumerate(names) for point in points(name))
    for point, owner in placed:
        until = bisect.bisect_right(places, point)
        found[owner] += until - before
        before = until
    # Beyond the last point the ring begins again.
    found[placed[0][1]] += len(places) - before
    return found


def test_counting_by_arcs_is_counting_key_by_key() -> None:
    ring = plan(4).ring()
    keys = [f"key:{i}" for i in range(3000)]
    assert counts(ring.names, sorted(map(ring.position, keys))) == ring.counts(keys)


def test_the_seeds_hash_and_plain_names_are_uneven() -> None:
    """What the planned names and hash are for; without them the bound above is broken."""
    keys = [b"key:%012d" % i for i in range(KEYS)]
    plain = Ring([f"redis-{i}" for i in range(3)], "fnv1a_64").counts(keys)
    assert max(plain) * 3 / KEYS > EVEN
    searched = Ring(plan(3).names, "fnv1a_64").counts(keys)
    assert max(searched) * 3 / KEYS > EVEN
    crc = Ring(plan(3).names, "crc32").counts(keys)
    assert max(crc) == KEYS, "15 bits of a hash reach one arc only"


@pytest.mark.parametrize("shards", range(2, 9))
def test_the_arcs_are_even(shards: int) -> None:
    assert plan(shards).max_over_mean <= 1.012
    assert sum(plan(shards).shares) == pytest.approx(1)
    assert moved_fraction(shards, shards + 1) / least_moved(shards, shards + 1) <= EVEN


def test_planning_is_fast() -> None:
    started = time.process_time()
    plan(8)
    moved_fraction(7, 8)
    moved_fraction(8, 9)
    assert time.process_time() - started < 0.2


@pytest.mark.parametrize("shard", [1, 2, 3])
def test_no_earlier_candidate_is_better_than_the_one_in_the_table(shard: int) -> None:
    """A short piece of the search; ``python -m dds_patterns.sharding search`` is all of it."""
    names = [node_name(number, salt) for number, salt in enumerate(SALTS[:shard])]
    grid = Arcs(names)
    chosen = grid.largest_with(node_name(shard, SALTS[shard]))
    earlier = range(max(0, SALTS[shard] - 400), SALTS[shard])
    assert all(grid.largest_with(node_name(shard, salt)) > chosen for salt in earlier)


def test_the_search_takes_the_best_candidate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--shards", "3", "--candidates", "50"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    salts: tuple[int, ...] = ast.literal_eval(last.removeprefix("SALTS = "))
    names = [node_name(0, 0), node_name(1, salts[1])]
    largest = [max(Ring([*names, node_name(2, s)], "md5").shares()) for s in range(50)]
    assert largest.index(min(largest)) == salts[2]


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "--shards", "4"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_beyond_the_table_names_are_searched_for() -> None:
    assert plan(18).names[:16] == plan(16).names
    assert plan(18).max_over_mean < 1.05
    assert best_salt(plan(16).names, 5) in range(5)


@given(shard_counts)
def test_names_stay_when_a_shard_is_added(shards: int) -> None:
    assert plan(shards + 1).names[:shards] == plan(shards).names


@given(some_names, st.sampled_from(sorted(HASHES)), some_keys, st.randoms())
def test_the_owner_does_not_depend_on_the_order_of_servers(
    names: list[str], hash_name: str, key: bytes, shuffler: random.Random
) -> None:
    shuffled = shuffler.sample(names, len(names))
    one, other = Ring(names, hash_name), Ring(shuffled, hash_name)
    assert one.names[one.index(key)] == other.names[other.index(key)]


@given(some_names, st.sampled_from(sorted(HASHES)), some_keys)
def test_a_key_is_where_it_was(names: list[str], hash_name: str, key: bytes) -> None:
    assert Ring(names, hash_name).index(key) == Ring(names, hash_name).index(key)


@given(some_names, st.text("abc", min_size=21, max_size=24), some_keys)
def test_a_new_server_takes_keys_and_moves_none_between_others(
    names: list[str], new: str, key: bytes
) -> None:
    before, after = Ring(names, "murmur"), Ring([*names, new], "murmur")
    owner = after.names[after.index(key)]
    assert owner in {new, before.names[before.index(key)]}


@given(some_names)
@settings(max_examples=25)
def test_shares_add_up_and_follow_the_points(names: list[str]) -> None:
    shares = Ring(names, "md5").shares()
    assert sum(shares) == pytest.approx(1)
    grid = Arcs(names)
    assert grid.largest_with("one-more-server") == pytest.approx(
        max(Ring([*names, "one-more-server"], "md5").shares())
    )


@given(shard_counts, shard_counts)
@settings(max_examples=30)
def test_what_moves_is_counted_exactly(old: int, new: int) -> None:
    assert moved_fraction(old, new) == pytest.approx(moved_fraction(new, old))
    # Names are kept, so what moves is just what the additional shards own.
    more, less = max(old, new), min(old, new)
    assert moved_fraction(old, new) == pytest.approx(sum(plan(more).shares[less:]))


@given(st.binary(max_size=30), st.sampled_from(sorted(HASHES)))
def test_hashes_have_32_bits(key: bytes, hash_name: str) -> None:
    assert 0 <= HASHES[hash_name](key) < 2**32


@given(
    st.text(st.characters(max_codepoint=127), max_size=30).map(str.encode), st.binary(max_size=9)
)
def test_tagged_keys_share_a_shard(tag: bytes, rest: bytes) -> None:
    ring = plan(6).ring("{}")
    if tag and b"}" not in tag and b"{" not in rest:
        assert ring.index(rest + b"{" + tag + b"}") == ring.index(b"{" + tag + b"}" + rest)
        assert ring.index(b"{" + tag + b"}") == plan(6).ring().index(tag)


def test_the_default_hash_is_the_same_on_every_processor() -> None:
    assert plan(3).hash in PORTABLE


def test_points_are_those_of_libketama() -> None:
    # First digest of md5("host-0"), four little-endian words.
    assert len(points("host")) == POINTS_PER_SERVER
    assert points("host")[:2] == points("host", 4)[:2]


@pytest.mark.parametrize("shards", [0, -1, MOST_SHARDS + 1])
def test_a_number_of_shards_out_of_bounds_is_refused(shards: int) -> None:
    with pytest.raises(ValueError, match="must be from 1 to 64"):
        plan(shards)


def test_an_unknown_hash_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of"):
        plan(3, "sha1")
