"""HTTP requests from inside a pod, with nothing but Python's standard library."""

import http.client
import json
import socket
import sys
import threading
import time
import urllib.parse
from typing import Any


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any,
    headers: dict[str, str],
) -> tuple[int, Any]:
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    content = answer.read()
    try:
        return answer.status, json.loads(content)
    except ValueError:
        return answer.status, content.decode(errors="replace")


def exchange(request: dict[str, Any]) -> dict[str, Any]:
    """One request; status 0 where there is no answer."""
    url = urllib.parse.urlsplit(request["url"])
    path = url.path + (f"?{url.query}" if url.query else "")
    connection = http.client.HTTPConnection(url.netloc, timeout=request.get("timeout", 10))
    try:
        status, content = _exchange(
            connection, request.get("method", "GET"), path or "/", request.get("body"),
            request.get("headers", {}),
        )  # fmt: skip
    except (OSError, http.client.HTTPException) as error:
        return {"status": 0, "content": f"{type(error).__name__}: {error}"}
    return {"status": status, "content": content}


def publish(request: dict[str, Any]) -> dict[str, Any]:
    """Publish every one of ``events`` (id and data), again and again until it is accepted.

    Each gets ``padding`` more letters, which need not come all the way here. Answers how often each
    was refused or unanswered, and what was never accepted within ``seconds``.
    """
    url = urllib.parse.urlsplit(request["url"])
    until = time.monotonic() + request.get("seconds", 60)
    tries: dict[str, int] = {}
    missing = []
    connection = http.client.HTTPConnection(url.netloc, timeout=10)
    padding = {"padding": "x" * request["padding"]} if "padding" in request else {}
    for event in request["events"]:
        accepted = False
        while not accepted and time.monotonic() < until:
            try:
                headers = {"ce-id": event["id"]}
                status, _ = _exchange(
                    connection, "POST", url.path, {**event["data"], **padding}, headers
                )
            except (OSError, http.client.HTTPException):
                status = 0
                connection.close()
            accepted = status == 202
            if not accepted:
                tries[event["id"]] = tries.get(event["id"], 0) + 1
                time.sleep(0.1)
        if not accepted:
            missing.append(event["id"])
        time.sleep(request.get("pause", 0))
    return {"again": tries, "missing": missing}


def reach(request: dict[str, Any]) -> dict[str, Any]:
    """Whether a TCP connection is made within ``timeout`` seconds."""
    host, _, port = request["at"].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), request.get("timeout", 3)):
            return {"reached": True}
    except OSError as error:
        return {"reached": False, "why": type(error).__name__}


def rate(request: dict[str, Any]) -> dict[str, Any]:
    """Seconds from the first request until all of ``count`` events have had all their effects.

    ``direct``: each of ``threads`` threads calls the steps one after the other. ``pipeline``: each
    publishes, and the steps are asked until they have everything.
    """
    mark, threads, count = request["mark"], request["threads"], request["count"]
    steps = urllib.parse.urlsplit(request["steps"]).netloc
    url = urllib.parse.urlsplit(request["url"])
    direct = request["way"] == "direct"
    errors: list[str] = []

    def work(first: int) -> None:
        connection = http.client.HTTPConnection(steps if direct else url.netloc, timeout=30)
        for number in range(first, count, threads):
            event = f"{mark}-{number}"
            data = {"username": event, "newsletter": True}
            if direct:
                for path in request["ways"]:
                    headers = {"Idempotency-Key": f"{event}/{path}"}
                    step = f"/{path.rpartition('/')[2]}"
                    status, _ = _exchange(connection, "POST", step, data, headers)
                    if status != 200:
                        errors.append(f"{event}: {status}")
            else:
                status, _ = _exchange(connection, "POST", url.path, data, {"ce-id": event})
                if status != 202:
                    errors.append(f"{event}: {status}")

    began = time.monotonic()
    workers = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    asking = http.client.HTTPConnection(steps, timeout=30)
    wanted = count * len(request["ways"])
    while time.monotonic() < began + request["seconds"] and not errors:
        _, there = _exchange(asking, "GET", f"/count?mark={mark}-", None, {})
        if there >= wanted:
            return {"seconds": time.monotonic() - began, "errors": []}
        time.sleep(0.02)
    return {"seconds": None, "errors": errors[:5] or ["not all were there in time"]}


ACTIONS = {action.__name__: action for action in (exchange, publish, reach, rate)}

if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    json.dump(ACTIONS[asked["do"]](asked), sys.stdout)
