"""Real programs that the tests start, and the wait until they listen."""

import contextlib
import math
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """Wait until the process accepts connections on a loopback port; fail if it ends instead."""
    deadline = time.monotonic() + seconds
    while True:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=1),
        ):
            return
        assert process.poll() is None, f"{process.args!r} ended"
        assert time.monotonic() < deadline, f"{process.args!r} does not listen"
        time.sleep(0.02)


@contextlib.contextmanager
def running(command: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A program, once it listens at ``port``, however long that takes."""
    with subprocess.Popen(command) as process:
        try:
            wait_for(port, process, math.inf)
            yield process
        finally:
            process.terminate()
