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
from typing import Any


def main() -> None:
    """Run the check; what is wrong is the last line printed."""
    mark = uuid.uuid4().hex[:12]
    user = f"smoke-test-{mark}"
    data = {"username": user, "email": f"{user}@example.org", "newsletter": True}
    signup = publish(os.environ["SIGNUP"], data, f"signup-{mark}")
    login = publish(os.environ["LOGINS"], {"user": user, "phoneNumber": "+1"}, f"login-{mark}")
    done = ended(signup)
    wanted = sorted(json.loads(os.environ["WAYS"]))
    expect(done == wanted, f"the signup went {done}, not {wanted}")
    ended(login)
    with urllib.request.urlopen(os.environ["INBOX"], timeout=10) as answer:  # noqa: S310
        sent = [m for m in json.load(answer)["messages"] if user in m["body"]]
    expect(len(sent) == 1, f"{len(sent)} messages were sent, not 1")
    print("passed: every step of the signup, one message for the login")


def publish(url: str, data: dict[str, Any], event: str) -> str:
    """Publish an event until it is accepted; a Service may take a moment to know its pods."""
    headers = {"Content-Type": "application/json", "ce-id": event}
    request = urllib.request.Request(url, json.dumps(data).encode(), headers)  # noqa: S310
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:  # noqa: S310
                return str(json.load(answer)["id"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            # Also what is cut short, or comes from whoever else stands behind the name. The event
            # has an id, so it is accepted once.
            if time.monotonic() > deadline:
                sys.exit(f"FAILED: {url} does not accept events: {error!r}")
            time.sleep(1)


def ended(event: str) -> list[str]:
    """The ways that an event went, once it is over."""
    deadline = time.monotonic() + 90
    while True:
        command = [sys.executable, "-m", "events", "trace", event, "--json"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        found = json.loads(shown.stdout) if shown.returncode == 0 else {}
        expect(not found.get("dead"), f"{event} is a dead letter: {found}")
        if found.get("done") and not found["waiting"]:
            return sorted(found["done"])
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: {event} is not over: {found or shown.stderr[-500:]}")
        time.sleep(1)


def expect(right: bool, otherwise: str) -> None:
    """End with what is wrong."""
    if not right:
        sys.exit(f"FAILED: {otherwise}")


if __name__ == "__main__":
    main()
