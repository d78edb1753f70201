"""Makes a resolver on the node's loopback reachable for its pods.

CoreDNS stands in front and caches, so one thread a query is enough.
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
PLACES = 64

Arrival = TypeVar("Arrival")


def start(upstreams: Sequence[str], stop: threading.Event) -> None:
    """Listens on the relay's address, UDP and TCP, and passes queries to the first upstream that answers."""
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
    """Passes on the queries that arrive at two sockets, in threads of its own."""
    asked, carried = _Places("dns udp"), _Places("dns tcp")

    def receive() -> None:
        while not stop.is_set():
            asked.fill(
                lambda: datagrams.recvfrom(LONGEST),
                lambda arrived: _answer(datagrams, *arrived, upstreams),
            )

    def accept() -> None:
        while not stop.is_set():
            carried.fill(lambda: streams.accept()[0], lambda client: _carry(client, upstreams))

    background.start("dns udp", stop, receive)
    background.start("dns tcp", stop, accept)


class _Places:
    """So many queries at a time. What finds no place waits in the kernel, which drops what is too much.

    Datagrams and streams have places of their own: slow streams leave those of the datagrams alone,
    which nearly every query is.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._free = threading.Semaphore(PLACES)
        self._workers = ThreadPoolExecutor(PLACES, thread_name_prefix=name)

    def fill(self, arrive: Callable[[], Arrival], work: Callable[[Arrival], None]) -> None:
        """Once a place is free, gives what arrives next to a worker."""
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
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            asked.settimeout(ANSWER_SECONDS)
            with contextlib.suppress(OSError):
                asked.connect((upstream, PORT))
                asked.send(query)
                sender.sendto(asked.recv(LONGEST), client)
                return


def _carry(client: socket.socket, upstreams: Sequence[str]) -> None:
    """One query and its answer over TCP, each preceded by its length in two bytes.

    The client has 4 s for the whole query and as many to take the answer, and so has each upstream.
    """
    with client, contextlib.suppress(OSError):
        query = _message(client)
        for upstream in upstreams:
            answer = b""
            with contextlib.suppress(OSError):
                answer = _asked(upstream, query)
            if answer:
                client.settimeout(ANSWER_SECONDS)
                client.sendall(answer)
                return


def _asked(upstream: str, query: bytes) -> bytes:
    with socket.create_connection((upstream, PORT), ANSWER_SECONDS) as asked:
        asked.sendall(query)
        return _message(asked)


def _message(stream: socket.socket) -> bytes:
    end = time.monotonic() + ANSWER_SECONDS
    head = _exactly(stream, 2, end)
    return head + _exactly(stream, int.from_bytes(head, "big"), end)


def _exactly(stream: socket.socket, length: int, end: float) -> bytes:
    got = b""
    while len(got) < length:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the message is not whole in time")
        stream.settimeout(left)
        part = stream.recv(length - len(got))
        if not part:
            raise OSError("the other side has closed the connection")
        got += part
    return got
