"""HTTP calls from inside a pod, one by one, at once, or for a while.

One JSON request on stdin, one JSON answer on stdout.
"""

import contextlib
import http.client
import json
import pathlib
import socket
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def call(one: dict[str, Any]) -> dict[str, Any]:
    """One call: ``url``, and if not a GET ``body`` (JSON, or text as ``text``), ``headers``."""
    url = urllib.parse.urlsplit(one["url"])
    text = one.get("text", json.dumps(one["body"]) if "body" in one else None)
    headers = {"Content-Type": "application/json", **one.get("headers", {})}
    connection = http.client.HTTPConnection(url.netloc, timeout=one.get("timeout", 30))
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    began = first = time.time()
    try:
        connection.request(
            one.get("method", "GET" if text is None else "POST"), path, text, headers
        )
        answer = connection.getresponse()
        # The first byte alone, to see when it came.
        body = answer.read(1)
        first = time.time()
        content = (body + answer.read()).decode(errors="replace")
        status, got = answer.status, {k.lower(): v for k, v in answer.getheaders()}
    except (OSError, http.client.HTTPException) as error:
        status, got, content = 0, {}, f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    try:
        parsed = json.loads(content)
    except ValueError:
        parsed = content
    return {
        "status": status,
        "headers": got,
        "content": parsed,
        "began": began,
        "first": first - began,
        "seconds": time.time() - began,
    }


def calls(request: dict[str, Any]) -> list[dict[str, Any]]:
    """All of ``calls``, ``at_once`` of them at a time; the answers in their order.

    Beside them ``slow`` clients of ``slow_url``, if any, send one byte of ten and no more.
    """
    with contextlib.ExitStack() as open_ones:
        for _ in range(request.get("slow", 0)):
            url = urllib.parse.urlsplit(request["slow_url"])
            address = (str(url.hostname), url.port or 80)
            client = open_ones.enter_context(socket.create_connection(address, timeout=30))
            client.sendall(b"POST / HTTP/1.1\r\nHost: slow\r\nContent-Length: 10\r\n\r\nx")
        return _calls(request)


def _calls(request: dict[str, Any]) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(request.get("at_once", 1)) as pool:
        return list(pool.map(call, request["calls"]))


def load(request: dict[str, Any]) -> dict[str, int]:
    """``call`` by ``clients`` at a time for ``seconds``, each with ``pause`` in between.

    Ends before if the file ``enough`` is there. Answers how often each status came.
    """
    until = time.monotonic() + request["seconds"]
    enough = pathlib.Path(request["enough"])
    counts: dict[str, int] = {}
    mutex = threading.Lock()

    def client() -> None:
        while time.monotonic() < until and not enough.exists():
            status = str(call(request["call"])["status"])
            with mutex:
                counts[status] = counts.get(status, 0) + 1
            time.sleep(request.get("pause", 0))

    threads = [threading.Thread(target=client) for _ in range(request["clients"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts


def timed(request: dict[str, Any]) -> dict[str, list[float]]:
    """Seconds of ``count`` calls over one connection to each of ``urls``, one after the other."""
    connections = {
        name: http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
        for name, url in request["urls"].items()
    }
    text = json.dumps(request["body"])
    found: dict[str, list[float]] = {name: [] for name in connections}
    for number in range(request["count"] + request.get("warm", 20)):
        for name, connection in connections.items():
            began = time.perf_counter()
            connection.request("POST", "/", text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{name} answered {answer.status}")
            if number >= request.get("warm", 20):
                found[name].append(time.perf_counter() - began)
    return found


if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    json.dump({"calls": calls, "load": load, "timed": timed}[asked["do"]](asked), sys.stdout)
