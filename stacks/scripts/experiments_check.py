#!/usr/bin/env python3
"""Smoke test of the composition ``experiments``, from a pod with the same companions.

The share of the users who see the experiment is the configured one, each user sees one arm only, a
header forces an arm, and the database behind the broker keeps what is written.
"""

import http.client
import json
import math
import os
import sys
import time
from collections import Counter
from typing import Any

import redis

USERS = 2000
ARMS = ("control", "experiment")


def main() -> None:
    """Run the checks; the first that fails ends the program."""
    plan = json.loads(os.environ["PLAN"])
    host, _, port = plan["splitter"].rpartition(":")
    wait_for_arms(host, int(port))
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    first = [seen(connection, user) for user in range(USERS)]
    counts = Counter(first)
    print(f"{USERS} users: {dict(counts)}")
    if plan["policy"] == "seed":
        # With ip_hash all of localhost is one client.
        if len(counts) != 1:
            sys.exit(f"FAILED: the book's form sent users to both arms: {counts}")
    else:
        check_shares(connection, first, plan["percent"] / 100)
    check_database(plan["database"])
    print("passed: shares, stickiness, force, database")


def wait_for_arms(host: str, port: int, seconds: float = 60) -> None:
    """Services get their endpoints a moment after pods are ready, and names their address."""
    deadline = time.monotonic() + seconds
    while True:
        connection = http.client.HTTPConnection(host, port, timeout=10)
        try:
            if all(seen(connection, 0, arm) in ARMS for arm in ARMS):
                return
        except (OSError, http.client.HTTPException) as error:
            print(error)
        if time.monotonic() > deadline:
            sys.exit("FAILED: the arms do not answer")
        time.sleep(1)


def seen(connection: Any, user: int, forced: str = "") -> str:
    """The page of one user, or the status."""
    headers = {"X-User-Id": f"check-{user}", **({"X-Arm": forced} if forced else {})}
    connection.request("GET", "/", headers=headers)
    response = connection.getresponse()
    page = response.read().decode().strip()
    return page if response.status == http.HTTPStatus.OK else f"status {response.status}"


def check_shares(connection: Any, first: list[str], share: float) -> None:
    """Four standard deviations, so that the check fails by chance once in 16,000 salts."""
    tolerance = 4 * math.sqrt(share * (1 - share) / len(first))
    got = first.count("experiment") / len(first)
    if abs(got - share) > tolerance or set(first) - set(ARMS):
        sys.exit(f"FAILED: {got:.3f} of the users see the experiment, {share} should")
    again = [seen(connection, user) for user in range(0, USERS, 10)]
    if again != first[::10]:
        sys.exit("FAILED: a user saw both arms")
    for arm in ARMS:
        if {seen(connection, user, arm) for user in range(20)} != {arm}:
            sys.exit(f"FAILED: the header does not force {arm}")


def check_database(address: str) -> None:
    """What is written through the broker is read through it."""
    host, _, port = address.rpartition(":")
    store = redis.Redis(host, int(port), socket_timeout=5, decode_responses=True)
    deadline = time.monotonic() + 60
    while True:
        try:
            store.set("smoke-test", "written", ex=60)
            if store.get("smoke-test") == "written":
                return
            sys.exit("FAILED: the database lost what was written")
        except redis.RedisError as error:
            if time.monotonic() > deadline:
                sys.exit(f"FAILED: the database does not answer: {error}")
        time.sleep(1)


if __name__ == "__main__":
    main()
