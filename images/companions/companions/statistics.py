"""Statistics of memcached, nginx and twemproxy as Prometheus metrics.

Each scrape queries the program once. If it does not respond, ``<kind>_up`` is 0: the exporter
itself stays up, so that the two can be distinguished. The names are those of the usual exporters.
"""

import argparse
import json
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from companions import web
from companions.metrics import CONTENT_TYPE, Family, Sample, exposition

LONGEST_ANSWER = 4 << 20


def query(address: str, request: bytes, end: Callable[[bytes], bool], timeout: float) -> bytes:
    """Send ``request`` to ``host:port`` and read until ``end`` or until the connection is closed.

    :raises OSError: no response within ``timeout`` seconds
    """
    host, _, port = address.rpartition(":")
    # A socket takes an IPv6 address without brackets.
    host = host.strip("[]")
    deadline = time.monotonic() + timeout
    received = b""
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        if request:
            connection.sendall(request)
        while not end(received):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no complete response from {address} in {timeout:g} s")
            connection.settimeout(left)
            piece = connection.recv(65536)
            if not piece:
                break
            received += piece
            if len(received) > LONGEST_ANSWER:
                raise OSError(f"{address} responds with more than {LONGEST_ANSWER} bytes")
    return received


def until_closed(_: bytes) -> bool:
    """Read until the peer closes the connection."""
    return False


def _single(name: str, kind: str, meaning: str, value: float) -> Family:
    return Family(name, kind, meaning, [Sample(value)])


_MEMCACHED = {
    "uptime": ("uptime_seconds", "counter", "Seconds since the start."),
    "curr_connections": ("current_connections", "gauge", "Open connections."),
    "total_connections": ("connections_total", "counter", "Connections accepted."),
    "rejected_connections": ("connections_rejected_total", "counter", "Connections refused."),
    "max_connections": ("max_connections", "gauge", "Maximum number of connections."),
    "bytes": ("current_bytes", "gauge", "Bytes of the stored items."),
    "limit_maxbytes": ("limit_bytes", "gauge", "Maximum bytes of items."),
    "curr_items": ("current_items", "gauge", "Stored items."),
    "total_items": ("items_total", "counter", "Items stored since the start."),
    "evictions": ("items_evicted_total", "counter", "Items evicted to free memory."),
    "reclaimed": ("items_reclaimed_total", "counter", "Expired items whose memory was reused."),
    "bytes_read": ("read_bytes_total", "counter", "Bytes from clients."),
    "bytes_written": ("written_bytes_total", "counter", "Bytes to clients."),
    "threads": ("threads", "gauge", "Worker threads."),
}
_MEMCACHED_COMMANDS = re.compile(r"(get|delete|incr|decr|cas|touch)_(hits|misses|badval)")


def memcached(target: str, timeout: float) -> Iterable[Family]:
    """The metrics of memcached's ``stats``."""
    raw = query(target, b"stats\r\n", lambda seen: seen.endswith(b"END\r\n"), timeout)
    if not raw.endswith(b"END\r\n"):
        raise ValueError("the response to stats is truncated")
    found = dict(
        line[5:].split(" ", 1) for line in raw.decode().split("\r\n") if line[:5] == "STAT "
    )
    families = [
        _single(f"memcached_{name}", kind, meaning, float(found[key]))
        for key, (name, kind, meaning) in _MEMCACHED.items()
        if key in found
    ]
    commands: list[Sample] = []
    for key, value in found.items():
        if (known := _MEMCACHED_COMMANDS.fullmatch(key)) is not None:
            status = {"hits": "hit", "misses": "miss"}.get(known[2], known[2])
            commands.append(Sample(float(value), {"command": known[1], "status": status}))
    if "cmd_set" in found:
        commands.append(Sample(float(found["cmd_set"]), {"command": "set", "status": "hit"}))
    return [
        *families,
        Family("memcached_commands_total", "counter", "Commands by outcome.", commands),
        Family(
            "memcached_version",
            "gauge",
            "1, with the version as a label.",
            [Sample(1, {"version": found.get("version", "")})],
        ),
    ]


_STUB = re.compile(
    r"Active connections:\s*(\d+)\s+server accepts handled requests\s+(\d+)\s+(\d+)\s+(\d+)\s+"
    r"Reading:\s*(\d+)\s+Writing:\s*(\d+)\s+Waiting:\s*(\d+)"
)


_LENGTH = re.compile(r"\r\nContent-Length: *(\d{1,18})(?:\r|$)", re.IGNORECASE)


def nginx(target: str, timeout: float) -> Iterable[Family]:
    """The metrics of nginx' ``stub_status`` at ``host:port/path``."""
    address, slash, path = target.partition("/")
    request = f"GET {slash}{path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode()
    raw = query(address, request, until_closed, timeout).decode()
    head, _, body = raw.partition("\r\n\r\n")
    announced = _LENGTH.search(head)
    if announced is not None and int(announced[1]) != len(body.encode()):
        # The last number would be truncated too.
        raise ValueError(
            f"{target}: the response is truncated to {len(body.encode())} of {announced[1]} bytes"
        )
    if " 200 " not in head.partition("\r\n")[0]:
        raise ValueError(f"{target} responds {head.partition(chr(13))[0]!r}")
    found = _STUB.search(body)
    if found is None:
        raise ValueError(f"the response of {target} is not stub_status")
    active, accepted, handled, requests, reading, writing, waiting = map(float, found.groups())
    gauge, counter = "gauge", "counter"
    return [
        _single("nginx_connections_active", gauge, "Open connections.", active),
        _single("nginx_connections_accepted", counter, "Connections accepted.", accepted),
        _single("nginx_connections_handled", counter, "Connections handled.", handled),
        _single(
            "nginx_connections_reading",
            gauge,
            "Connections whose request header is being read.",
            reading,
        ),
        _single(
            "nginx_connections_writing", gauge, "Connections whose request is processed.", writing
        ),
        _single("nginx_connections_waiting", gauge, "Idle keep-alive connections.", waiting),
        _single("nginx_http_requests_total", counter, "Requests.", requests),
    ]


_POOL = {
    "client_eof": ("client_eof_total", "counter", "Connections that clients closed."),
    "client_err": ("client_errors_total", "counter", "Failed connections of clients."),
    "client_connections": ("client_connections", "gauge", "Open connections of clients."),
    "server_ejects": ("server_ejects_total", "counter", "Ejections of servers."),
    "forward_error": ("forward_errors_total", "counter", "Commands without a live server."),
    "fragments": ("fragments_total", "counter", "Parts of commands with several keys."),
}
_SERVER = {
    "server_eof": ("server_eof_total", "counter", "Connections that the server closed."),
    "server_err": ("server_errors_total", "counter", "Failed connections to the server."),
    "server_timedout": ("server_timeouts_total", "counter", "Commands that timed out."),
    "server_connections": ("server_connections", "gauge", "Open connections to the server."),
    "requests": ("server_requests_total", "counter", "Commands sent."),
    "request_bytes": ("server_request_bytes_total", "counter", "Bytes sent."),
    "responses": ("server_responses_total", "counter", "Responses received."),
    "response_bytes": ("server_response_bytes_total", "counter", "Bytes received."),
    "in_queue": ("server_in_queue", "gauge", "Commands that wait to be sent."),
    "out_queue": ("server_out_queue", "gauge", "Commands that wait for a response."),
}


def twemproxy(target: str, timeout: float) -> Iterable[Family]:
    """The metrics of twemproxy's statistics port."""
    raw = query(target, b"", until_closed, timeout)
    found: Mapping[str, Any] = json.loads(raw)
    samples: dict[str, list[Sample]] = {key: [] for key in _POOL | _SERVER}
    for pool, statistics in found.items():
        if not isinstance(statistics, dict):
            continue
        for key, value in statistics.items():
            if key in _POOL:
                samples[key].append(Sample(float(value), {"pool": pool}))
            elif isinstance(value, dict):
                for name, number in value.items():
                    if name in _SERVER:
                        labels = {"pool": pool, "server": key}
                        samples[name].append(Sample(float(number), labels))
    return [
        *(
            Family(f"twemproxy_{name}", kind, meaning, samples[key])
            for key, (name, kind, meaning) in (_POOL | _SERVER).items()
        ),
        _single(
            "twemproxy_uptime_seconds",
            "counter",
            "Seconds since the start.",
            float(found["uptime"]),
        ),
    ]


COLLECTORS: Mapping[str, Callable[[str, float], Iterable[Family]]] = {
    "memcached": memcached,
    "nginx": nginx,
    "twemproxy": twemproxy,
}


def collected(kind: str, target: str, timeout: float) -> str:
    """The current metrics."""
    began = time.monotonic()
    families: list[Family] = []
    try:
        families += COLLECTORS[kind](target, timeout)
        up = 1.0
    except Exception as error:  # noqa: BLE001 (the exporter stays up whatever the program responds)
        up = 0.0
        print(f"{kind} at {target}: {type(error).__name__}: {error}", flush=True)
    taken = time.monotonic() - began
    return exposition(
        [
            _single(f"{kind}_up", "gauge", "1 if this scrape reached the program.", up),
            _single(f"{kind}_exporter_scrape_seconds", "gauge", "Duration of this scrape.", taken),
            *families,
        ]
    )


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="statistics", description=__doc__)
    parser.add_argument("--kind", choices=sorted(COLLECTORS), required=True)
    parser.add_argument("--target", required=True, help="host:port, for nginx with a path")
    parser.add_argument("--port", type=int, required=True, help="for /metrics and /health")
    parser.add_argument("--deadline", type=float, default=3.0, help="timeout in seconds")
    given = parser.parse_args()
    # Other pods scrape it; the NetworkPolicy restricts which.
    web.Server(
        "0.0.0.0",  # noqa: S104
        given.port,
        {
            "/metrics": lambda _: web.Answer(
                collected(given.kind, given.target, given.deadline), CONTENT_TYPE
            ),
            # The health of the exporter itself, not of the program.
            "/health": lambda _: web.Answer("ok\n"),
        },
    ).run()


if __name__ == "__main__":
    main()
