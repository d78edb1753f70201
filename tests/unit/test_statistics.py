"""The project's own exporters, against answers as the real programs give them."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.unit.support.companions import program

statistics = program("statistics")

MEMCACHED = (
    b"STAT pid 1\r\nSTAT uptime 120\r\nSTAT version 1.6.18\r\nSTAT max_connections 1024\r\n"
    b"STAT curr_connections 2\r\nSTAT bytes 77\r\nSTAT limit_maxbytes 33554432\r\n"
    b"STAT get_hits 3\r\nSTAT get_misses 4\r\nSTAT cas_badval 1\r\nSTAT cmd_set 5\r\nEND\r\n"
)
NGINX = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nActive connections: 2 \nserver accepts "
    b"handled requests\n 10 9 31 \nReading: 0 Writing: 1 Waiting: 1 \n"
)
TWEMPROXY = json.dumps(
    {
        "service": "nutcracker", "uptime": 9, "total_connections": 4, "curr_connections": 2,
        "redis": {
            "client_eof": 1, "client_err": 0, "client_connections": 3, "server_ejects": 2,
            "forward_error": 5, "fragments": 0,
            "a": {"server_eof": 0, "server_err": 1, "server_timedout": 7, "server_connections": 1,
                  "server_ejected_at": 0, "requests": 11, "request_bytes": 12, "responses": 10,
                  "response_bytes": 13, "in_queue": 0, "out_queue": 1},
        },
    }
).encode()  # fmt: skip


@contextmanager
def answering(reply: bytes | None, wait_for: bytes = b"") -> Iterator[str]:
    """A server on loopback that answers one connection, or with None says nothing for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            received = b""
            while wait_for not in received:
                received += connection.recv(4096)
            if reply is None:
                done.wait(10)
            else:
                connection.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        done.set()
        thread.join(10)
        listener.close()


def values(text: str) -> dict[str, float]:
    """The samples; what is no valid line of the format fails."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP|TYPE) [a-z_]+ .+", line)
            continue
        sample = re.fullmatch(r'([a-z_]+(?:\{[a-z_]+="[^"]*"(?:,[a-z_]+="[^"]*")*\})?) (\S+)', line)
        assert sample, line
        assert sample[1] not in found, line
        found[sample[1]] = float(sample[2])
    return found


@pytest.mark.parametrize(
    ("kind", "reply", "wait_for", "path", "expected"),
    [
        (
            "memcached", MEMCACHED, b"stats\r\n", "",
            {
                "memcached_uptime_seconds": 120, "memcached_limit_bytes": 33554432,
                'memcached_commands_total{command="get",status="hit"}': 3,
                'memcached_commands_total{command="get",status="miss"}': 4,
                'memcached_commands_total{command="cas",status="badval"}': 1,
                'memcached_commands_total{command="set",status="hit"}': 5,
            },
        ),
        (
            "nginx", NGINX, b"\r\n\r\n", "/stub_status",
            {"nginx_http_requests_total": 31, "nginx_connections_accepted": 10,
             "nginx_connections_handled": 9, "nginx_connections_waiting": 1},
        ),
        (
            "twemproxy", TWEMPROXY, b"", "",
            {'twemproxy_server_ejects_total{pool="redis"}': 2,
             'twemproxy_server_requests_total{pool="redis",server="a"}': 11,
             'twemproxy_server_timeouts_total{pool="redis",server="a"}': 7,
             "twemproxy_uptime_seconds": 9},
        ),
    ],
)  # fmt: skip
def test_statistics_become_metrics(
    kind: str, reply: bytes, wait_for: bytes, path: str, expected: dict[str, float]
) -> None:
    with answering(reply, wait_for) as address:
        found = values(statistics.collected(kind, address + path, 5))
    assert found[f"{kind}_up"] == 1
    assert expected.items() <= found.items()


@pytest.mark.parametrize(
    ("kind", "reply", "path"),
    [
        ("memcached", b"ERROR\r\n", ""),
        ("memcached", b"STAT uptime 120\r\n", ""),
        ("nginx", b"HTTP/1.1 404 Not Found\r\n\r\nnothing", "/stub_status"),
        ("nginx", b"HTTP/1.1 200 OK\r\n\r\nhello", "/stub_status"),
        (
            "nginx",
            NGINX.replace(b"plain\r\n", b"plain\r\nContent-Length: %d\r\n" % (len(NGINX) - 40)),
            "/stub_status",
        ),
        ("twemproxy", b"{", ""),
        ("twemproxy", b"[1]", ""),
        pytest.param("twemproxy", b"[" * 100_000, "", id="deep"),
        pytest.param("twemproxy", b'{"uptime": 1%s}' % (b"0" * 400), "", id="large"),
        ("twemproxy", b"{}", ""),
    ],
)
def test_a_program_that_answers_nonsense_is_down(kind: str, reply: bytes, path: str) -> None:
    with answering(reply, b"\r\n\r\n" if path else b"") as address:
        assert values(statistics.collected(kind, address + path, 5))[f"{kind}_up"] == 0


def test_a_program_that_is_away_or_silent_is_down_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    assert values(statistics.collected("memcached", address, 5))["memcached_up"] == 0
    with answering(None) as address:
        found = values(statistics.collected("memcached", address, 0.3))
    assert found["memcached_up"] == 0
    assert 0.3 <= found["memcached_exporter_scrape_seconds"] < 5


def test_ipv6_is_asked_without_its_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def connect(address: Any, timeout: float) -> Any:
        asked.append((address, timeout))
        raise OSError

    monkeypatch.setattr(statistics.socket, "create_connection", connect)
    with pytest.raises(OSError):  # noqa: PT011 (of the stand-in)
        statistics.query("[::1]:11211", b"", statistics.until_closed, 5)
    assert asked == [(("::1", 11211), 5)]


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "LONGEST_ANSWER", 1000)
    with answering(b"x" * 5000) as address, pytest.raises(OSError, match="more than 1000"):
        statistics.query(address, b"", statistics.until_closed, 5)


def test_every_metric_of_alarms_and_panels_can_come_from_the_collectors() -> None:
    from dds_patterns.single_node.metric_kinds import KINDS  # noqa: PLC0415

    replies: dict[str, tuple[bytes, str, Callable[..., Any]]] = {
        "nginx": (NGINX, "/stub_status", statistics.nginx),
        "twemproxy": (TWEMPROXY, "", statistics.twemproxy),
    }
    for kind, (reply, path, _) in replies.items():
        # What is closed with a request unread is reset, and the answer may be lost with it.
        with answering(reply, b"\r\n\r\n" if path else b"") as address:
            known = {name.partition("{")[0] for name in values(
                statistics.collected(kind, address + path, 5))}  # fmt: skip
        named = {
            name
            for alert in KINDS[kind].alerts
            for name in re.findall(r"\b([a-z]\w*)\{", alert.expression)
        }
        assert named - {"up"} <= known
