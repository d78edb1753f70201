"""Invalid HTTP: responses that break off, and requests that trickle."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

RESET = b"\x00reset"
"""As the last part of a response: the connection is reset instead of closed."""


@dataclass
class Raw:
    """A server on the loopback that sends given bytes, whatever the request.

    The nth connection gets the nth response, and all later ones the last. Each is closed after its
    last part, so a length or a chunk that announces more is cut short.
    """

    port: int
    requests: list[bytes] = field(default_factory=list)
    """The head of each request, with the body bytes that arrived with it."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def raw_server(
    *answers: bytes | Sequence[bytes], between: Callable[[], None] = lambda: None
) -> Iterator[Raw]:
    """Serve the responses ``answers``, each as one piece or in parts.

    :param between: called between two parts of a response
    """
    listener = socket.create_server(("127.0.0.1", 0))
    server = Raw(listener.getsockname()[1])

    def serve(connection: socket.socket, parts: Sequence[bytes]) -> None:
        # A client may close the connection early.
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (piece := connection.recv(65536)):
                head += piece
            server.requests.append(head)
            for number, part in enumerate(parts):
                if number:
                    between()
                if part == RESET:
                    connection.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
                    )
                    return
                connection.sendall(part)
            # Closed in both directions at once, unread bytes would turn the end into a reset.
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    def accept() -> None:
        number = 0
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                answer = answers[min(number, len(answers) - 1)]
                number += 1
                parts = [answer] if isinstance(answer, bytes) else answer
                threading.Thread(target=serve, args=(connection, parts), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        # Closing alone would leave accept() waiting.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def answered(
    body: bytes, *headers: str, status: str = "200 OK", length: int | None = None
) -> bytes:
    """A response with a Content-Length, which may differ from the body's.

    It closes the connection: a client that keeps one may send a request on it just before it sees
    the end, and the request is lost.
    """
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body) if length is None else length}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def chunked(*pieces: bytes, whole: bool, headers: Sequence[str] = ()) -> bytes:
    """A chunked response, with its end or without."""
    lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Connection: close", *headers, "", ""]
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return "\r\n".join(lines).encode() + body + (b"0\r\n\r\n" if whole else b"")


@contextlib.contextmanager
def begun(port: int, sent: bytes, count: int = 1) -> Iterator[list[socket.socket]]:
    """Connections that have sent only the beginning of a request."""
    with contextlib.ExitStack() as open_ones:
        connections = []
        for _ in range(count):
            connection = open_ones.enter_context(
                socket.create_connection(("127.0.0.1", port), timeout=30)
            )
            connection.sendall(sent)
            connections.append(connection)
        yield connections


def trickled(connections: Sequence[socket.socket], more: bytes = b"x") -> int:
    """Send one more piece on each; how many of them are still open."""
    still = 0
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.sendall(more)
            still += 1
    return still
