"""A client of the shards: one JSON request on stdin, JSON on stdout.

Requests name a ``do``; the functions of the same name say what they are. ``at`` are the addresses of
the shards, in order. Each question is asked on a connection of its own.
"""

import http.client
import json
import sys
import threading
import time
from typing import Any


def ask(address: str, tries: int, timeout: float) -> dict[str, Any]:
    """What a shard answers, or ``error`` where the last try failed as well."""
    failed = ""
    for attempt in range(tries):
        time.sleep(0.1 * attempt)
        connection = http.client.HTTPConnection(address, timeout=timeout)
        try:
            connection.request("GET", "/")
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            failed = f"{type(error).__name__}: {error}"
        else:
            return answer
        finally:
            connection.close()
    return {"error": failed}


def each(request: dict[str, Any]) -> dict[str, Any]:
    """Ask each shard ``count`` times, with so many ``tries``; all answers, by shard."""
    tries = request.get("tries", 4)
    return {
        "answers": [
            [ask(address, tries, 2) for _ in range(request["count"])] for address in request["at"]
        ]
    }


def tell(request: dict[str, Any]) -> dict[str, Any]:
    """Ask all shards, each in a thread, until another line comes on stdin.

    Each answer is told in a line of its own, with ``endpoint``, the number of the address, and ``at``,
    the Unix seconds when it had come.
    """
    stop, telling = threading.Event(), threading.Lock()

    def client(endpoint: int, address: str) -> None:
        while not stop.is_set():
            answer = ask(address, 4, 2)
            line = json.dumps({**answer, "endpoint": endpoint, "at": time.time()})
            with telling:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
            stop.wait(0.05)

    clients = [
        threading.Thread(target=client, args=numbered) for numbered in enumerate(request["at"])
    ]
    for thread in clients:
        thread.start()
    sys.stdin.readline()
    stop.set()
    for thread in clients:
        thread.join()
    return {}


ACTIONS = {action.__name__: action for action in (each, tell)}

if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    json.dump(ACTIONS[asked["do"]](asked), sys.stdout)
