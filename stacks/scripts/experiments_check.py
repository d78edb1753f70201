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

import redis

SECONDS = 100
"""For all that is waited for, less than the check itself has: it then says what was not there."""
USERS = 2000
ARMS = ("control", "experiment")


def main() -> None:
    """Run the checks; the first that fails ends the program."""
    deadline = time.monotonic() + SECONDS
    plan = json.loads(os.environ["PLAN"])
    host, _, port = plan["splitter"].rpartition(":")
    splitter = Splitter(host, int(port), deadline)
    for arm in ARMS:
        splitter.seen(0, arm)
    first = [splitter.seen(user) for user in range(USERS)]
    counts = Counter(first)
    print(f"{USERS} users: {dict(counts)}")
    if plan["policy"] == "seed":
        # With ip_hash all of localhost is one client.
        if len(counts) != 1:
            sys.exit(f"FAILED: the book's form sent users to both arms: {counts}")
    else:
        check_shares(splitter, first, plan["percent"] / 100)
    check_database(plan["database"], deadline)
    print("passed: shares, stickiness, force, database")


class Splitter:
    """A client of the splitter, with a keep-alive connection."""

    def __init__(self, host: str, port: int, deadline: float) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=10)
        self._deadline = deadline

    def seen(self, user: int, forced: str = "") -> str:
        """The page of one user.

        Services get their endpoints a moment after pods are ready, names their address, and each
        arm's NetworkPolicy takes effect at another moment: a failed request is retried.
        """
        headers = {"X-User-Id": f"check-{user}", **({"X-Arm": forced} if forced else {})}
        while True:
            try:
                self._connection.request("GET", "/", headers=headers)
                response = self._connection.getresponse()
                page = response.read().decode().strip()
                problem: object = f"status {response.status}"
                if response.status == http.HTTPStatus.OK:
                    return page
            except (OSError, http.client.HTTPException) as error:
                # It is made again by the next request.
                self._connection.close()
                problem = repr(error)
            print(f"user {user}, arm {forced or 'as it comes'}: {problem}")
            if time.monotonic() > self._deadline:
                sys.exit(f"FAILED: the arms do not answer: {problem}")
            time.sleep(1)


def check_shares(splitter: Splitter, first: list[str], share: float) -> None:
    """Four standard deviations, so that the check fails by chance once in 16,000 salts."""
    tolerance = 4 * math.sqrt(share * (1 - share) / len(first))
    got = first.count("experiment") / len(first)
    if abs(got - share) > tolerance or set(first) - set(ARMS):
        sys.exit(f"FAILED: {got:.3f} of the users see the experiment, {share} should")
    again = [splitter.seen(user) for user in range(0, USERS, 10)]
    if again != first[::10]:
        sys.exit("FAILED: a user saw both arms")
    for arm in ARMS:
        if {splitter.seen(user, arm) for user in range(20)} != {arm}:
            sys.exit(f"FAILED: the header does not force {arm}")


def check_database(address: str, deadline: float) -> None:
    """What is written through the broker is read through it."""
    host, _, port = address.rpartition(":")
    store = redis.Redis(host, int(port), socket_timeout=5, decode_responses=True)
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
