#!/usr/bin/env python3
"""Smoke test of the composition ``companions``, from a pod beside.

What is counted over HTTPS went through the ambassador, which the adapter's metrics say; the list of
processes has those of all containers.
"""

import functools
import http.client
import json
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any

HITS = 20
TOPZ_PORT = 8079
# One series for each shard.
REQUESTS = re.compile(r"^twemproxy_server_requests_total\{.*\} ([0-9.e+]+)$", re.MULTILINE)
PROGRAMS = ("counter.py", "nginx", "nutcracker", "companions.topz", "companions.statistics")


def main() -> None:
    """Run the checks; the first that fails ends the program."""
    plan = json.loads(os.environ["PLAN"])
    host, _, port = plan["endpoint"].rpartition(":")
    context = ssl.create_default_context(cafile=plan["ca"])

    def count() -> int:
        connection = http.client.HTTPSConnection(host, int(port), timeout=10, context=context)
        connection.request("GET", "/hits/smoke-test")
        response = connection.getresponse()
        content: dict[str, Any] = json.loads(response.read())
        if response.status != http.HTTPStatus.OK:
            raise OSError(str(content))
        return int(content["hits"])

    first = eventually("HTTPS", count)
    last = [count() for _ in range(HITS)][-1]
    if last - first != HITS:
        sys.exit(f"FAILED: {HITS} hits counted as {last - first}")
    name, _, metrics_port = plan["metrics"].rpartition(":")
    addresses = eventually("the name of the pods", lambda: pods(name))
    served = 0.0
    for address in addresses:
        listed = eventually("topz", functools.partial(get, address, TOPZ_PORT, "/topz.json"))
        commands = " ".join(process["command"] for process in json.loads(listed)["processes"])
        missing = [program for program in PROGRAMS if program not in commands]
        if missing:
            sys.exit(f"FAILED: {address} lists no {', '.join(missing)}: {commands}")
        metrics = eventually(
            "metrics", functools.partial(get, address, int(metrics_port), "/metrics")
        )
        served += sum(float(value) for value in REQUESTS.findall(metrics))
    print(
        f"{HITS} hits over HTTPS, {len(addresses)} pods, {served:.0f} requests by the ambassadors"
    )
    if served < HITS:
        sys.exit(f"FAILED: the ambassadors' metrics know of {served:.0f} requests")
    print("passed: HTTPS, ambassador, its metrics, processes")


def pods(name: str) -> list[str]:
    """The address of every pod with the companions."""
    found = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
    return sorted({str(entry[4][0]) for entry in found})


def get(host: str, port: int, path: str) -> str:
    """An answer over plain HTTP."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    if response.status != http.HTTPStatus.OK:
        raise OSError(f"{path} answers {response.status}: {body}")
    return body


def eventually(what: str, ask: Callable[[], Any], seconds: float = 60) -> Any:
    """The first answer; Services get their endpoints a moment after pods are ready."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (OSError, ValueError, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                sys.exit(f"FAILED: {what}: {error}")
        time.sleep(1)


if __name__ == "__main__":
    main()
