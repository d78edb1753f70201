"""Background threads."""

import os
import sys
import threading
import traceback
from collections.abc import Callable


def start(work: Callable[[], None], name: str) -> threading.Thread:
    """Run ``work`` in a thread; an exception in it exits the process.

    A program without its worker must not look healthy: the kubelet restarts it.
    """

    def watched() -> None:
        try:
            work()
        except BaseException:  # noqa: BLE001 (any exception ends the worker)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    thread = threading.Thread(target=watched, name=name, daemon=True)
    thread.start()
    return thread
