"""An HTTP client that runs in a pod: one JSON request on stdin, one JSON answer on stdout.

Requests name a ``do`` and its arguments; the functions of the same name say what they are.
"""

import http.client
import itertools
import json
import sys
import threading
import time
from collections import Counter
from typing import Any


def _connection(request: dict[str, Any]) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(
        request["host"], request["port"], timeout=request.get("timeout", 10)
    )


def _named(headers: dict[str, str], number: int) -> dict[str, str]:
    return {name: value.replace("#", str(number)) for name, value in headers.items()}


def users(request: dict[str, Any]) -> dict[str, Any]:
    """GET / for ``count`` users from ``first`` on, ``each`` times, on kept connections.

    ``headers``: in their values ``#`` is the user's number. Answers, for each user, what was seen:
    the answers' bodies (or ``status 502`` and the like), joined by a comma where they differ.
    """
    first, count = request.get("first", 0), request["count"]
    seen: list[set[str]] = [set() for _ in range(count)]

    def visit(start: int, step: int) -> None:
        connection = _connection(request)
        for number in range(start, count, step):
            for _ in range(request.get("each", 1)):
                headers = _named(request.get("headers", {}), first + number)
                connection.request("GET", request.get("path", "/"), headers=headers)
                response = connection.getresponse()
                body = response.read().decode().strip()
                seen[number].add(body if response.status == 200 else f"status {response.status}")
        connection.close()

    lanes = request.get("lanes", 2)
    threads = [threading.Thread(target=visit, args=(lane, lanes)) for lane in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"seen": [",".join(sorted(of_user)) for of_user in seen]}


def get(request: dict[str, Any]) -> dict[str, Any]:
    """One GET: status, headers (names in lower case) and body, or ``error`` and status 0."""
    connection = _connection(request)
    began = time.monotonic()
    try:
        connection.request("GET", request.get("path", "/"), headers=request.get("headers", {}))
        response = connection.getresponse()
        body = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        seconds = time.monotonic() - began
        return {"status": 0, "error": f"{type(error).__name__}: {error}", "seconds": seconds}
    finally:
        connection.close()
    return {
        "status": response.status,
        "headers": {name.lower(): value for name, value in response.getheaders()},
        "body": body,
        "seconds": time.monotonic() - began,
    }


def load(request: dict[str, Any]) -> dict[str, Any]:
    """GETs of ``clients`` for ``seconds`` or until another line on stdin, each on a connection of
    its own, with ``pause`` seconds after each.

    Answers how often each outcome was seen, and for each when (Unix seconds) it was first and last.
    """
    stop = threading.Event()
    outcomes: Counter[str] = Counter()
    when: dict[str, list[float]] = {}
    numbers = itertools.count(1)
    counting = threading.Lock()

    def client() -> None:
        while not stop.is_set():
            path = request.get("path", "/").replace("#", str(next(numbers)))
            began = time.time()
            answer = get({**request, "path": path})
            outcome = answer.get("error") or f"status {answer['status']}"
            with counting:
                outcomes[outcome] += 1
                when.setdefault(outcome, [began, began])[1] = began
            stop.wait(request.get("pause", 0.05))

    def listen() -> None:
        if sys.stdin.readline():
            stop.set()

    clients = [threading.Thread(target=client) for _ in range(request.get("clients", 1))]
    for thread in clients:
        thread.start()
    threading.Thread(target=listen, daemon=True).start()
    stop.wait(request["seconds"])
    stop.set()
    for thread in clients:
        thread.join()
    return {"outcomes": outcomes, "when": when}


ACTIONS = {action.__name__: action for action in (users, get, load)}

if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    json.dump(ACTIONS[asked["do"]](asked), sys.stdout)
