"""Makes a resolver on the node's loopback reachable for its pods.

CoreDNS stands in front and caches, so one thread a query is enough.
"""

import contextlib
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from toolchain.node.program.host import RELAY_ADDRESS, run
from toolchain.node.program.supervisor import say

PORT = 53
ANSWER_SECONDS = 4.0
LONGEST = 65535


def start(upstreams: Sequence[str]) -> None:
    """Listens on the relay's address, UDP and TCP, and passes queries to the first upstream that answers."""
    run("ip", "addr", "replace", f"{RELAY_ADDRESS}/32", "dev", "lo")
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((RELAY_ADDRESS, PORT))
    streams = socket.create_server((RELAY_ADDRESS, PORT), backlog=64)
    workers = ThreadPoolExecutor(max_workers=64, thread_name_prefix="dns")

    def receive() -> None:
        while True:
            query, client = datagrams.recvfrom(LONGEST)
            workers.submit(_answer, datagrams, query, client, upstreams)

    def accept() -> None:
        while True:
            client, _ = streams.accept()
            workers.submit(_carry, client, upstreams)

    for loop in (receive, accept):
        threading.Thread(target=loop, name=f"dns {loop.__name__}", daemon=True).start()
    say(f"dns: pods reach {', '.join(upstreams)} through {RELAY_ADDRESS}")


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
    """One query and its answer over TCP, each preceded by its length in two bytes."""
    with client:
        client.settimeout(ANSWER_SECONDS)
        try:
            query = _message(client)
            for upstream in upstreams:
                try:
                    with socket.create_connection((upstream, PORT), ANSWER_SECONDS) as asked:
                        asked.sendall(query)
                        client.sendall(_message(asked))
                        return
                except OSError:
                    continue
        except OSError:
            return


def _message(stream: socket.socket) -> bytes:
    head = _exactly(stream, 2)
    return head + _exactly(stream, int.from_bytes(head, "big"))


def _exactly(stream: socket.socket, length: int) -> bytes:
    got = b""
    while len(got) < length:
        part = stream.recv(length - len(got))
        if not part:
            raise OSError("the other side has closed the connection")
        got += part
    return got
