"""Statistics of memcached, nginx and twemproxy as Prometheus metrics.

Each scrape asks the program once. One that does not answer is ``<kind>_up 0``: the exporter itself
stays up, so that the two can be told apart. Names follow those that the known exporters use.
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


def ask(address: str, request: bytes, end: Callable[[bytes], bool], patience: float) -> bytes:
    """Send ``request`` to ``host:port`` and read until ``end`` or the end of the connection.

    :raises OSError: nobody answers, or not within ``patience`` seconds
    """
    host, _, port = address.rpartition(":")
    # A socket takes IPv6 without its brackets.
    host = host.strip("[]")
    deadline = time.monotonic() + patience
    received = b""
    with socket.create_connection((host, int(port)), timeout=patience) as connection:
        if request:
            connection.sendall(request)
        while not end(received):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no complete answer from {address} in {patience:g} s")
            connection.settimeout(left)
            piece = connection.recv(65536)
            if not piece:
                break
            received += piece
            if len(received) > LONGEST_ANSWER:
                raise OSError(f"{address} answers with more than {LONGEST_ANSWER} bytes")
    return received


def to_the_end(_: bytes) -> bool:
    """Never enough: read until the other side closes."""
    return False


def _single(name: str, kind: str, meaning: str, value: float) -> Family:
    return Family(name, kind, meaning, [Sample(value)])


_MEMCACHED = {
    "uptime": ("uptime_seconds", "counter", "Seconds since the start."),
    "curr_connections": ("current_connections", "gauge", "Open connections."),
    "total_connections": ("connections_total", "counter", "Connections accepted."),
    "rejected_connections": ("connections_rejected_total", "counter", "Connections refused."),
    "max_connections": ("max_connections", "gauge", "Most connections."),
    "bytes": ("current_bytes", "gauge", "Bytes of the items that are held."),
    "limit_maxbytes": ("limit_bytes", "gauge", "Bytes for items."),
    "curr_items": ("current_items", "gauge", "Items that are held."),
    "total_items": ("items_total", "counter", "Items stored."),
    "evictions": ("items_evicted_total", "counter", "Items thrown out for room."),
    "reclaimed": ("items_reclaimed_total", "counter", "Expired items whose room was used again."),
    "bytes_read": ("read_bytes_total", "counter", "Bytes from clients."),
    "bytes_written": ("written_bytes_total", "counter", "Bytes to clients."),
    "threads": ("threads", "gauge", "Worker threads."),
}
_MEMCACHED_COMMANDS = re.compile(r"(get|delete|incr|decr|cas|touch)_(hits|misses|badval)")


def memcached(target: str, patience: float) -> Iterable[Family]:
    """What ``stats`` answers."""
    raw = ask(target, b"stats\r\n", lambda seen: seen.endswith(b"END\r\n"), patience)
    if not raw.endswith(b"END\r\n"):
        raise ValueError("the answer to stats has no end")
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
        Family("memcached_commands_total", "counter", "Commands by what came of them.", commands),
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


def nginx(target: str, patience: float) -> Iterable[Family]:
    """What ``stub_status`` answers at ``host:port/path``."""
    address, slash, path = target.partition("/")
    request = f"GET {slash}{path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode()
    raw = ask(address, request, to_the_end, patience).decode()
    head, _, body = raw.partition("\r\n\r\n")
    announced = _LENGTH.search(head)
    if announced is not None and int(announced[1]) != len(body.encode()):
        # The last figure would be another one.
        raise ValueError(f"{target} announces {announced[1]} bytes and sends {len(body.encode())}")
    if " 200 " not in head.partition("\r\n")[0]:
        raise ValueError(f"{target} answers {head.partition(chr(13))[0]!r}")
    found = _STUB.search(body)
    if found is None:
        raise ValueError(f"{target} answers something else than stub_status")
    active, accepted, handled, requests, reading, writing, waiting = map(float, found.groups())
    gauge, counter = "gauge", "counter"
    return [
        _single("nginx_connections_active", gauge, "Open connections.", active),
        _single("nginx_connections_accepted", counter, "Connections accepted.", accepted),
        _single("nginx_connections_handled", counter, "Connections handled.", handled),
        _single("nginx_connections_reading", gauge, "Reading a request's head.", reading),
        _single("nginx_connections_writing", gauge, "Working on a request.", writing),
        _single("nginx_connections_waiting", gauge, "Kept open, idle.", waiting),
        _single("nginx_http_requests_total", counter, "Requests.", requests),
    ]


_POOL = {
    "client_eof": ("client_eof_total", "counter", "Connections that clients ended."),
    "client_err": ("client_errors_total", "counter", "Connections of clients that failed."),
    "client_connections": ("client_connections", "gauge", "Open connections of clients."),
    "server_ejects": ("server_ejects_total", "counter", "How often a server was left out."),
    "forward_error": ("forward_errors_total", "counter", "Commands that found no server."),
    "fragments": ("fragments_total", "counter", "Parts of commands with several keys."),
}
_SERVER = {
    "server_eof": ("server_eof_total", "counter", "Connections that the server ended."),
    "server_err": ("server_errors_total", "counter", "Connections to the server that failed."),
    "server_timedout": ("server_timeouts_total", "counter", "Commands not answered in time."),
    "server_connections": ("server_connections", "gauge", "Open connections to the server."),
    "requests": ("server_requests_total", "counter", "Commands sent."),
    "request_bytes": ("server_request_bytes_total", "counter", "Bytes sent."),
    "responses": ("server_responses_total", "counter", "Answers received."),
    "response_bytes": ("server_response_bytes_total", "counter", "Bytes received."),
    "in_queue": ("server_in_queue", "gauge", "Commands that wait to be sent."),
    "out_queue": ("server_out_queue", "gauge", "Commands that wait for an answer."),
}


def twemproxy(target: str, patience: float) -> Iterable[Family]:
    """What its statistics port says."""
    raw = ask(target, b"", to_the_end, patience)
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


def collected(kind: str, target: str, patience: float) -> str:
    """All metrics at this moment."""
    began = time.monotonic()
    families: list[Family] = []
    try:
        families += COLLECTORS[kind](target, patience)
        up = 1.0
    except Exception as error:  # noqa: BLE001 (whatever it answers, the exporter stays up)
        up = 0.0
        print(f"{kind} at {target}: {type(error).__name__}: {error}", flush=True)
    taken = time.monotonic() - began
    return exposition(
        [
            _single(f"{kind}_up", "gauge", "1 if this scrape found the program.", up),
            _single(f"{kind}_exporter_scrape_seconds", "gauge", "How long it took.", taken),
            *families,
        ]
    )


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="statistics", description=__doc__)
    parser.add_argument("--kind", choices=sorted(COLLECTORS), required=True)
    parser.add_argument("--target", required=True, help="host:port, for nginx with a path")
    parser.add_argument("--port", type=int, required=True, help="to be scraped at")
    parser.add_argument("--deadline", type=float, default=3.0, help="seconds for an answer")
    given = parser.parse_args()
    # From other pods; the NetworkPolicy says from which.
    web.Server(
        "0.0.0.0",  # noqa: S104
        given.port,
        {
            "/metrics": lambda _: web.Answer(
                collected(given.kind, given.target, given.deadline), CONTENT_TYPE
            ),
            # Says that the exporter runs, whatever its program does.
            "/health": lambda _: web.Answer("ok\n"),
        },
    ).run()


if __name__ == "__main__":
    main()
