"""Ports of the loopback for programs that a test starts, and starts again."""

import os
import socket
from collections.abc import Iterator

# Below the ports from which Linux takes one for each outgoing connection (32768 and up): of
# those, a port found free is another's as soon as anything connects to anywhere.
_FIRST, _LAST = 10000, 19999
_BLOCK = 100


class _Blocks:
    """Blocks of ports for this process alone: who listens on a block's first port has it."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []
        self._of = 0
        self._ports: Iterator[int] = iter(())

    def port(self) -> int:
        if self._of != os.getpid():
            # A fork has its parent's sockets, but its parent goes on to use the ports.
            self._held, self._of, self._ports = [], os.getpid(), iter(())
        while True:
            for port in self._ports:
                if _free(port):
                    return port
            self._ports = self._claim()

    def _claim(self) -> Iterator[int]:
        for first in range(_FIRST, _LAST, _BLOCK):
            try:
                self._held.append(socket.create_server(("127.0.0.1", first)))
            except OSError:
                continue
            return iter(range(first + 1, first + _BLOCK))
        raise OSError(f"no block of {_BLOCK} ports is left between {_FIRST} and {_LAST}")


def _free(port: int) -> bool:
    try:
        # On every address: some programs listen on all.
        with socket.create_server(("", port)):
            return True
    except OSError:
        return False


_BLOCKS = _Blocks()


def free_port() -> int:
    """A port that nobody has, and that nobody else is given while this process lives.

    :raises OSError: where all are taken
    """
    return _BLOCKS.port()


def free_ports(count: int) -> list[int]:
    """So many of them."""
    return [free_port() for _ in range(count)]
