#!/usr/bin/env python3
"""Check from inside the cluster that exactly one leads, and that the store refuses older tokens.

PLAN (environment) is JSON: where the tickers and the store are, how many replicas there are, the
name of the counter, whether the store fences, and the time to live.
"""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any

SECONDS = 100
"""Bound of all waits, in addition to four times to live. The Job's deadline is longer, so the check can
name what was missing."""
# With so many requests each of the few replicas has responded, in any order of the Service.
ANSWERS = 60
UNREADABLE = (OSError, ValueError, http.client.HTTPException)


def main() -> None:
    """Run the check; the last line printed names the failure."""
    plan = json.loads(os.environ["PLAN"])
    deadline = time.monotonic() + SECONDS + 4 * plan["ttl_seconds"]
    leader, token = one_leader(plan, deadline)
    print(f"{leader} leads with token {token}, and no other of {plan['replicas']} does")
    before, after = growing(plan, deadline)
    print(f"the counter grew from {before} to {after}")
    older_token(plan, token, deadline)
    print("passed: one leader, the counter grows, tokens")


def ask(address: str, path: str, content: Any = None) -> tuple[int, Any]:
    """Status and answer, over a connection of its own."""
    request = urllib.request.Request(f"http://{address}{path}")
    if content is not None:
        request.data = json.dumps(content).encode()
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def answered(deadline: float, address: str, path: str, content: Any = None) -> tuple[int, Any]:
    """The first complete response with a status below 500."""
    while True:
        try:
            status, answer = ask(address, path, content)
            problem: object = f"{status}: {answer}"
            if status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                return status, answer
        except UNREADABLE as error:
            problem = error
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: {address}{path}: {problem}")
        time.sleep(0.5)


def one_leader(plan: dict[str, Any], deadline: float) -> tuple[str, int]:
    """Who leads, once every replica has answered and one of them says so."""
    while True:
        standing: dict[str, int | None] = {}
        problem = ""
        try:
            for _ in range(ANSWERS):
                state = ask(plan["ticker"], "/")[1]
                standing[state["identity"]] = state["token"] if state["leading"] else None
        except (*UNREADABLE, KeyError) as error:
            problem = f": {error!r}"
        leaders = [(name, token) for name, token in standing.items() if token is not None]
        if len(standing) == plan["replicas"] and len(leaders) == 1:
            return leaders[0]
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: not one leader of {plan['replicas']} but {standing}{problem}")
        time.sleep(0.5)


def growing(plan: dict[str, Any], deadline: float) -> tuple[int, int]:
    """The counter's value before and after."""

    def value() -> int:
        return int(answered(deadline, plan["store"], f"/counters/{plan['counter']}")[1]["value"])

    before = value()
    while True:
        after = value()
        if after >= before + 3:
            return before, after
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: the counter stands at {after}")
        time.sleep(0.2)


def older_token(plan: dict[str, Any], token: int, deadline: float) -> None:
    """The store refuses a token older than the leader's; without fencing it takes it."""
    # On a counter of its own: the tickers' is theirs.
    path = f"/counters/{plan['counter']}-check/claim"
    holder = {"holder": "election-check"}
    # A claim may be made twice: the second one finds what it wants.
    answered(deadline, plan["store"], path, {"token": token, **holder})
    status, answer = answered(deadline, plan["store"], path, {"token": token - 1, **holder})
    wanted = 409 if plan["fenced"] else 200
    if status != wanted:
        sys.exit(f"FAILED: token {token - 1} after {token}: {status}, not {wanted}: {answer}")


if __name__ == "__main__":
    main()
