#!/usr/bin/env python3
"""Check from inside the cluster that keys written through the ambassador are where they belong.

PLAN (environment) is JSON: the addresses of the ambassador, its statistics and the shards, a
prefix, and for each key (prefix and number) the shard that must hold it. PASSWORD_FILE names a
file with the password, or is not set. What is written is deleted again, and expires by itself.
"""

import functools
import json
import os
import pathlib
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import redis

SECONDS = 100
"""For all that is waited for, less than the check itself has: it then says what was not there."""
EXPIRY_SECONDS = 600
BATCH = 500
COMMANDS_PER_KEY = 3
"""Through the ambassador: SET, GET, DEL."""


def main() -> None:
    """Run the check; the last line printed names the failure."""
    deadline = time.monotonic() + SECONDS
    plan = json.loads(os.environ["PLAN"])
    file = os.environ.get("PASSWORD_FILE")
    password = pathlib.Path(file).read_text().strip() if file else None
    ambassador = connect(plan["ambassador"], password)
    shards = {shard["name"]: connect(shard["address"], password) for shard in plan["shards"]}
    order = list(shards)
    expected = {f"{plan['prefix']}{i}": order[owner] for i, owner in enumerate(plan["owners"])}
    keys = list(expected)
    for name, shard in shards.items():
        eventually(f"shard {name}", functools.partial(shard.exists, "any"), deadline)
    one_of = {name: key for key, name in expected.items()}
    for name, key in one_of.items():
        ask = functools.partial(ambassador.exists, key)
        eventually(f"shard {name} through the ambassador", ask, deadline)
    before = eventually("statistics", functools.partial(requests, plan), deadline)
    try:
        each(ambassador, keys, lambda p, key: p.set(key, f"value of {key}", ex=EXPIRY_SECONDS))
        values = each(ambassador, keys, lambda p, key: p.get(key))
        holders = held(shards, keys)
    finally:
        each(ambassador, keys, lambda p, key: p.delete(key))

    unreadable = [k for k, v in zip(keys, values, strict=True) if v != f"value of {k}"]
    remaining = [key for key, names in held(shards, keys).items() if names]
    failures = [
        *said(unreadable, "not readable through the ambassador"),
        *said([k for k, names in holders.items() if len(names) != 1], "not on exactly one shard"),
        *said([k for k, names in holders.items() if expected[k] not in names], "not as planned"),
        *said(remaining, "still there after their deletion"),
        *check_statistics(plan, before, Counter(expected.values()), deadline),
    ]
    counts = Counter(name for names in holders.values() for name in names)
    fullest = max(counts.values()) / (len(keys) / len(order))
    print(f"{len(keys)} keys: {dict(sorted(counts.items()))}, largest over mean {fullest:.3f}")
    if failures:
        sys.exit("FAILED: " + "; ".join(failures))
    print("passed: placement, readability, deletion, statistics")


def connect(address: str, password: str | None) -> Any:
    """Make a client of ``host:port``."""
    host, _, port = address.rpartition(":")
    return redis.Redis(host, int(port), password=password, socket_timeout=10, decode_responses=True)


def eventually(what: str, ask: Callable[[], Any], deadline: float) -> Any:
    """The first answer; Services get their endpoints a moment after pods are ready."""
    while True:
        try:
            return ask()
        except (redis.RedisError, OSError, ValueError, KeyError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"FAILED: {what} does not answer: {error!r}")
        time.sleep(0.5)


def each(store: Any, keys: Sequence[str], command: Callable[[Any, str], object]) -> list[Any]:
    """Answers to one command for every key, in batches."""
    answers: list[Any] = []
    for start in range(0, len(keys), BATCH):
        pipeline = store.pipeline(transaction=False)
        for key in keys[start : start + BATCH]:
            command(pipeline, key)
        answers += pipeline.execute()
    return answers


def held(shards: Mapping[str, Any], keys: Sequence[str]) -> dict[str, list[str]]:
    """Names of the shards that hold each key, asked of the shards themselves."""
    holders: dict[str, list[str]] = {key: [] for key in keys}
    for name, shard in shards.items():
        found = each(shard, keys, lambda p, key: p.exists(key))
        for key, there in zip(keys, found, strict=True):
            if there:
                holders[key].append(name)
    return holders


def said(keys: Sequence[str], what: str) -> Iterable[str]:
    """One sentence for the keys that fail, none if none does."""
    return [f"{len(keys)} keys are {what}, {keys[0]} for one"] if keys else []


def requests(plan: Mapping[str, Any]) -> Counter[str]:
    """Commands that the ambassador has sent to each shard."""
    host, _, port = plan["statistics"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        text = b"".join(iter(lambda: connection.recv(65536), b""))
    pool = json.loads(text)["redis"]
    return Counter({shard["name"]: pool[shard["entry"]]["requests"] for shard in plan["shards"]})


def check_statistics(
    plan: Mapping[str, Any], before: Counter[str], keys: Counter[str], deadline: float
) -> Iterable[str]:
    """Check that the ambassador counted the commands at the shards that got them."""
    wanted = {name: before[name] + COMMANDS_PER_KEY * keys[name] for name in before}
    ask = functools.partial(requests, plan)
    # The proxy publishes its counters now and then only.
    while any(
        (counted := eventually("statistics", ask, deadline))[name] < wanted[name] for name in wanted
    ):
        if time.monotonic() > deadline:
            return [f"statistics say {dict(counted)}, at least {wanted} was sent"]
        time.sleep(0.5)
    return []


if __name__ == "__main__":
    main()
