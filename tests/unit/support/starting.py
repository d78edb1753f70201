"""A process that handles a signal only after a while, like any starting program."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.unit.support.waiting import soon

# Its first line is its signals' state, and it continues when something is written to it.
_SCRIPT = """
import signal, sys
print("started", flush=True)
sys.stdin.readline()
if sys.argv[1] == "handler":
    signal.signal(signal.SIGUSR1, lambda *_: print("told", flush=True))
elif sys.argv[1] == "wait":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready", flush=True)
if sys.argv[1] == "wait":
    signal.sigwait([signal.SIGUSR1])
    print("told", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def starting(folder: Path, listens: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """The name of such a process, and what lets it listen and ``told`` be read.

    :param listens: by a ``handler``, or by a ``wait`` for the signal SIGUSR1
    """
    # The search covers every process of the machine, also those of another run of a test.
    name = f"starting-{os.getpid()}-{listens}.py"
    (folder / name).write_text(_SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(folder / name), listens],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def said(word: str) -> None:
            assert stdout.readline() == f"{word}\n"

        def go_on() -> None:
            stdin.write("\n")
            stdin.flush()
            said("ready")

        try:
            said("started")
            yield name, go_on
            said("told")
        finally:
            process.kill()


def at_last(tell: Callable[[], None], refused: type[Exception]) -> None:
    """Signal such a process, with retries while it is refused, as the programs do.

    One that enters sigwait() has its signal unblocked a moment before it sleeps, and seems not to
    handle it at that moment.
    """

    def told() -> bool:
        try:
            tell()
        except refused:
            return False
        return True

    soon(told, 60)
