#!/usr/bin/env python3
"""Check from inside the cluster that a signup and a login get to their end.

SIGNUP and LOGINS (environment) are URLs at which events are published, INBOX is that of the
gateway, WAYS has the ways of a signup with a newsletter.
"""

import http.client
import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Sequence
from typing import Any

UNREADABLE = (OSError, http.client.HTTPException, ValueError, KeyError, TypeError)
SECONDS = 160
"""For all that is waited for, less than the check itself has: it then says what was not there."""


def main() -> None:
    """Run the check; the last line printed names the failure."""
    deadline = time.monotonic() + SECONDS
    mark = uuid.uuid4().hex[:12]
    user = f"smoke-test-{mark}"
    data = {"username": user, "email": f"{user}@example.org", "newsletter": True}
    signup = publish(os.environ["SIGNUP"], data, f"signup-{mark}", deadline)
    order = {"user": user, "phoneNumber": "+1"}
    login = publish(os.environ["LOGINS"], order, f"login-{mark}", deadline)
    ended(signup, deadline, json.loads(os.environ["WAYS"]))
    ended(login, deadline)
    one_message(os.environ["INBOX"], user, deadline)
    print("passed: every step of the signup, one message for the login")


def publish(url: str, data: dict[str, Any], event: str, deadline: float) -> str:
    """Publish an event until it is accepted; a Service may take a moment to know its pods."""
    headers = {"Content-Type": "application/json", "ce-id": event}
    request = urllib.request.Request(url, json.dumps(data).encode(), headers)  # noqa: S310
    while True:
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:  # noqa: S310
                return str(json.load(answer)["id"])
        except UNREADABLE as error:
            # Also a truncated response, or one of another server behind the name. A retry is safe: the
            # event has an id, so the bus stores it once.
            if time.monotonic() > deadline:
                sys.exit(f"FAILED: {url} does not accept events: {error!r}")
            time.sleep(1)


def ended(event: str, deadline: float, ways: Sequence[str] = ()) -> None:
    """Wait until an event is over, and has gone all of these ways if there are any."""
    wanted = sorted(ways)
    while True:
        command = [sys.executable, "-m", "events", "trace", event, "--json"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        found = json.loads(shown.stdout) if shown.returncode == 0 else {}
        done = sorted(found.get("done", ()))
        expect(not found.get("dead"), f"{event} is a dead letter: {found}")
        # Records are written one by one: a way that is done may be known before another's start is.
        if done and not found["waiting"] and done == (wanted or done):
            return
        if time.monotonic() > deadline:
            went = f"it went {done}, not {wanted}: " if wanted else ""
            sys.exit(f"FAILED: {event} is not over: {went}{found or shown.stderr[-500:]}")
        time.sleep(1)


def one_message(url: str, user: str, deadline: float) -> None:
    """Wait until a message was sent to the user; a second one is a failure."""
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
                sent = [m for m in json.load(answer)["messages"] if user in m["body"]]
            problem: object = f"{len(sent)} messages were sent, not 1"
            expect(len(sent) <= 1, str(problem))
            if sent:
                return
        except UNREADABLE as error:
            problem = repr(error)
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: {url}: {problem}")
        time.sleep(1)


def expect(right: bool, otherwise: str) -> None:
    """End with what is wrong."""
    if not right:
        sys.exit(f"FAILED: {otherwise}")


if __name__ == "__main__":
    main()
