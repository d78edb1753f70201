"""Plain connections from a pod: one JSON request on stdin, one JSON answer on stdout."""

import contextlib
import json
import socket
import sys
import time
from collections import Counter
from typing import Any


def hold(request: dict[str, Any]) -> dict[str, Any]:
    """Open ``count`` connections to ``host:port``, send nothing, and keep them.

    A MySQL counts one from its greeting on. They are closed after ``seconds``, or as soon as somebody
    connects to ``until_port`` on loopback.
    """
    kept = []
    for _ in range(request["count"]):
        connection = socket.create_connection((request["host"], request["port"]), timeout=5)
        connection.recv(64)
        kept.append(connection)
    with socket.create_server(("127.0.0.1", request["until_port"])) as enough:
        enough.settimeout(request["seconds"])
        with contextlib.suppress(TimeoutError):
            enough.accept()[0].close()
    for connection in kept:
        connection.close()
    return {"held": len(kept)}


def greetings(request: dict[str, Any]) -> dict[str, Any]:
    """Connect to ``host:port`` once each ``pause`` for ``seconds``; how often somebody greeted."""
    until = time.time() + request["seconds"]
    outcomes: Counter[str] = Counter()
    while time.time() < until:
        try:
            with socket.create_connection((request["host"], request["port"]), timeout=3) as there:
                outcomes["greeted" if there.recv(64) else "closed"] += 1
        except OSError as error:
            outcomes[type(error).__name__] += 1
        time.sleep(request.get("pause", 0.2))
    return {"outcomes": outcomes}


ACTIONS = {action.__name__: action for action in (hold, greetings)}

if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    json.dump(ACTIONS[asked["do"]](asked), sys.stdout)
