"""Plain connections from a pod: one JSON request on stdin, one JSON answer on stdout."""

import json
import socket
import sys
import time
from collections import Counter
from typing import Any


def greetings(request: dict[str, Any]) -> dict[str, Any]:
    """Connect to ``host:port`` once each ``pause`` for ``seconds``; how often somebody greeted."""
    until = time.time() + request["seconds"]
    outcomes: Counter[str] = Counter()
    while time.time() < until:
        try:
            with socket.create_connection((request["host"], request["port"]), timeout=10) as there:
                outcomes["greeted" if there.recv(64) else "closed"] += 1
        except OSError as error:
            outcomes[type(error).__name__] += 1
        time.sleep(request.get("pause", 0.2))
    return {"outcomes": outcomes}


ACTIONS = {action.__name__: action for action in (greetings,)}

if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    json.dump(ACTIONS[asked["do"]](asked), sys.stdout)
