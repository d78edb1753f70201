"""Forwards DNS queries of pods to a resolver on the node's loopback.

CoreDNS caches in front of it, so one thread per query is enough.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from toolchain.node.program import background
from toolchain.node.program.host import RELAY_ADDRESS, run
from toolchain.node.program.supervisor import say

PORT = 53
ANSWER_SECONDS = 4.0
LONGEST = 65535
SLOTS = 64

Arrival = TypeVar("Arrival")


def start(upstreams: Sequence[str], stop: threading.Event) -> None:
    """Listens on the relay's address, UDP and TCP, and forwards queries to the first upstream that responds."""
    run("ip", "addr", "replace", f"{RELAY_ADDRESS}/32", "dev", "lo")
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((RELAY_ADDRESS, PORT))
    relay(datagrams, socket.create_server((RELAY_ADDRESS, PORT), backlog=64), upstreams, stop)
    say(f"dns: pods reach {', '.join(upstreams)} through {RELAY_ADDRESS}")


def relay(
    datagrams: socket.socket,
    streams: socket.socket,
    upstreams: Sequence[str],
    stop: threading.Event,
) -> None:
    """Forwards the queries that arrive at two sockets, in threads of its own."""
    udp, tcp = _Slots("dns udp"), _Slots("dns tcp")

    def receive() -> None:
        while not stop.is_set():
            udp.fill(
                lambda: datagrams.recvfrom(LONGEST),
                lambda arrived: _answer(datagrams, *arrived, upstreams),
            )

    def accept() -> None:
        while not stop.is_set():
            tcp.fill(lambda: streams.accept()[0], lambda client: _forward_tcp(client, upstreams))

    background.start("dns udp", stop, receive)
    background.start("dns tcp", stop, accept)


class _Slots:
    """Limits concurrent queries. More wait in the socket's queue, which drops those beyond its size.

    Datagrams and streams have separate slots, so that slow streams do not block datagrams, which are
    nearly all queries.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._free = threading.Semaphore(SLOTS)
        self._workers = ThreadPoolExecutor(SLOTS, thread_name_prefix=name)

    def fill(self, arrive: Callable[[], Arrival], work: Callable[[Arrival], None]) -> None:
        """Waits for a free slot, and passes the next arrival to a worker."""
        self._free.acquire()
        try:
            self._workers.submit(work, arrive()).add_done_callback(self._done)
        except BaseException:
            self._free.release()
            raise

    def _done(self, work: Future[None]) -> None:
        self._free.release()
        if error := work.exception():
            say(f"{self._name}: {error!r}")


def _answer(
    sender: socket.socket, query: bytes, client: tuple[str, int], upstreams: Sequence[str]
) -> None:
    for upstream in upstreams:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream_socket:
            upstream_socket.settimeout(ANSWER_SECONDS)
            with contextlib.suppress(OSError):
                upstream_socket.connect((upstream, PORT))
                upstream_socket.send(query)
                sender.sendto(upstream_socket.recv(LONGEST), client)
                return


def _forward_tcp(client: socket.socket, upstreams: Sequence[str]) -> None:
    """One query and its response over TCP, each preceded by its length in two bytes.

    The client has 4 s for the complete query and 4 s to receive the response, and so has each upstream.
    """
    with client, contextlib.suppress(OSError):
        query = _message(client)
        for upstream in upstreams:
            answer = b""
            with contextlib.suppress(OSError):
                answer = _query(upstream, query)
            if answer:
                client.settimeout(ANSWER_SECONDS)
                client.sendall(answer)
                return


def _query(upstream: str, query: bytes) -> bytes:
    with socket.create_connection((upstream, PORT), ANSWER_SECONDS) as stream:
        stream.sendall(query)
        return _message(stream)


def _message(stream: socket.socket) -> bytes:
    end = time.monotonic() + ANSWER_SECONDS
    head = _exactly(stream, 2, end)
    return head + _exactly(stream, int.from_bytes(head, "big"), end)


def _exactly(stream: socket.socket, length: int, end: float) -> bytes:
    got = b""
    while len(got) < length:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the message timed out")
        stream.settimeout(left)
        part = stream.recv(length - len(got))
        if not part:
            raise OSError("the peer has closed the connection")
        got += part
    return got
