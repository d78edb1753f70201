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

SECONDS = 100
"""For all that is waited for, less than the check itself has: it then says what was not there."""
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
    deadline = time.monotonic() + SECONDS
    asked = 0

    def count() -> int:
        nonlocal asked
        asked += 1
        connection = http.client.HTTPSConnection(host, int(port), timeout=10, context=context)
        connection.request("GET", "/hits/smoke-test")
        response = connection.getresponse()
        content: dict[str, Any] = json.loads(response.read())
        if response.status != http.HTTPStatus.OK:
            raise OSError(str(content))
        return int(content["hits"])

    first = eventually("HTTPS", count, deadline)
    before = asked
    # Each may meet another pod, which lets this one in a moment later than the first did.
    last = [eventually("HTTPS", count, deadline) for _ in range(HITS)][-1]
    # One that was asked again may have been counted all the same.
    if not HITS <= last - first <= asked - before:
        sys.exit(f"FAILED: {HITS} hits counted as {last - first}")
    name, _, metrics_port = plan["metrics"].rpartition(":")
    found = eventually("pods", functools.partial(seen, name, int(metrics_port)), deadline)
    print(f"{HITS} hits over HTTPS, {found}")
    print("passed: HTTPS, ambassador, its metrics, processes")


class NotYetError(Exception):
    """What an answer lacks, which may be there in the next one."""


def seen(name: str, metrics_port: int) -> str:
    """What the pods say of themselves, once they list each program and have counted every hit.

    The ambassadors publish their counters, and topz its list, now and then only.
    """
    served = 0.0
    addresses = pods(name)
    for address in addresses:
        listed = json.loads(get(address, TOPZ_PORT, "/topz.json"))
        commands = " ".join(process["command"] for process in listed["processes"])
        missing = [program for program in PROGRAMS if program not in commands]
        if missing:
            raise NotYetError(f"{address} lists no {', '.join(missing)}: {commands}")
        metrics = get(address, metrics_port, "/metrics")
        served += sum(float(value) for value in REQUESTS.findall(metrics))
    if served < HITS:
        raise NotYetError(f"the ambassadors' metrics know of {served:.0f} requests")
    return f"{len(addresses)} pods, {served:.0f} requests by the ambassadors"


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


def eventually(what: str, ask: Callable[[], Any], deadline: float) -> Any:
    """The first good answer; Services get their endpoints a moment after pods are ready."""
    while True:
        try:
            return ask()
        except (OSError, ValueError, http.client.HTTPException, NotYetError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"FAILED: {what}: {error}")
        time.sleep(1)


if __name__ == "__main__":
    main()
