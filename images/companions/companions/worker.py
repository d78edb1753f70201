"""Threads that work in the background."""

import os
import sys
import threading
import traceback
from collections.abc import Callable


def start(work: Callable[[], None], name: str) -> threading.Thread:
    """Run ``work`` in a thread; an exception that ends it ends the process.

    A program whose worker is gone must not look well: the kubelet starts it again.
    """

    def watched() -> None:
        try:
            work()
        except BaseException:  # noqa: BLE001 (whatever it is, nobody does the work any more)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    thread = threading.Thread(target=watched, name=name, daemon=True)
    thread.start()
    return thread
