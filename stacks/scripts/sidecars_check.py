#!/usr/bin/env python3
"""Check from inside the cluster what the sidecars of an old server add to it.

PLAN (environment) is JSON: the endpoint for HTTPS, its other ports, the serial number that the
certificate must have, and the file with the authority.
"""

import functools
import http.client
import json
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

CLAIMED = "203.0.113.99"
SECONDS = 215
"""For all that is waited for, less than the check itself has: it then says what was not there. The
kubelet looks at a pod every 60 to 90 seconds."""


def main() -> None:
    """Run the check; the last line printed names the failure."""
    plan = json.loads(os.environ["PLAN"])
    host, _, port = plan["endpoint"].rpartition(":")
    context = ssl.create_default_context(cafile=plan["ca"])
    deadline = time.monotonic() + SECONDS
    wait_for_serial(host, int(port), context, plan["serial"], deadline)
    checks = (
        functools.partial(https, host, int(port), context),
        functools.partial(refused, host, plan),
        functools.partial(redirected, host, plan["redirect_port"], int(port)),
        functools.partial(configured, host, int(port), context),
        functools.partial(listed, host, plan["topz_port"]),
    )
    # A Service knows its pods, and a sidecar has brought its files, a moment after pods are ready.
    while failures := [failure for check in checks for failure in failures_of(check)]:
        if time.monotonic() > deadline:
            sys.exit("FAILED: " + "; ".join(failures))
        time.sleep(1)
    print("passed: certificate, forwarded headers, files, redirect, processes, nothing in plain")


def failures_of(check: Callable[[], Iterator[str]]) -> list[str]:
    """The failures of a check, including that there is no response."""
    try:
        return list(check())
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        return [f"{error!r}"]


def wait_for_serial(
    host: str, port: int, context: ssl.SSLContext, wanted: str, deadline: float
) -> None:
    """Wait until every handshake has the certificate: the kubelet brings it with its next look."""
    seen = 0
    # Several in a row, since each may meet another pod.
    while seen < 5:  # noqa: PLR2004
        try:
            serial = serial_of(host, port, context)
        except OSError as error:
            serial = f"none, {error}"
        seen = seen + 1 if serial == wanted else 0
        if not seen:
            if time.monotonic() > deadline:
                sys.exit(f"FAILED: the certificate's serial number is {serial}, not {wanted}")
            time.sleep(1)


def serial_of(host: str, port: int, context: ssl.SSLContext) -> str:
    """Serial number of the certificate, which is verified."""
    with (
        socket.create_connection((host, port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        certificate: Mapping[str, Any] = secured.getpeercert() or {}
        return f"{int(certificate['serialNumber'], 16):x}"


def https(host: str, port: int, context: ssl.SSLContext) -> Iterator[str]:
    """The application answers, and is told the truth about its client."""
    connection = http.client.HTTPSConnection(host, port, timeout=10, context=context)
    connection.request(
        "GET", "/", headers={"X-Forwarded-For": CLAIMED, "X-Client-Verify": "SUCCESS"}
    )
    answer = connection.getresponse()
    seen = json.loads(answer.read())
    headers = seen["headers"]
    if answer.status != http.HTTPStatus.OK:
        yield f"HTTPS answers {answer.status}"
    if headers.get("x-forwarded-proto") != "https":
        yield f"X-Forwarded-Proto is {headers.get('x-forwarded-proto')}"
    if headers.get("host") != f"{host}:{port}":
        yield f"the application is told that it is {headers.get('host')}"
    if CLAIMED in headers.get("x-forwarded-for", "") or "x-client-verify" in headers:
        yield f"the application is told what the client claims: {headers}"


def refused(host: str, plan: Mapping[str, Any]) -> Iterator[str]:
    """Nothing of the application is to be had in plain."""
    try:
        socket.create_connection((host, plan["application_port"]), timeout=2).close()
        yield f"port {plan['application_port']} is open"
    except OSError:
        pass


def redirected(host: str, port: int, https_port: int) -> Iterator[str]:
    """Plain HTTP leads to HTTPS, to the same path."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection.request("GET", "/a?b=c")
    answer = connection.getresponse()
    location = answer.getheader("Location")
    if answer.status != http.HTTPStatus.PERMANENT_REDIRECT:
        yield f"plain HTTP answers {answer.status}"
    if location != f"https://{host}:{https_port}/a?b=c":
        yield f"plain HTTP is sent to {location}"


def configured(host: str, port: int, context: ssl.SSLContext) -> Iterator[str]:
    """The server has read the files that its sidecar put there."""
    connection = http.client.HTTPSConnection(host, port, timeout=10, context=context)
    connection.request("GET", "/config")
    files = json.loads(connection.getresponse().read())["files"]
    if "greeting" not in files.get("settings.json", ""):
        yield f"the application's files are {files}"


def listed(host: str, port: int) -> Iterator[str]:
    """The list of the pod's processes has the server."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection.request("GET", "/topz.json")
    processes = connection.getresponse().read().decode()
    if "legacy.py" not in processes:
        yield f"topz lists {processes}"


if __name__ == "__main__":
    main()
