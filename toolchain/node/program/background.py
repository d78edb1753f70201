"""Background threads that continue after an error."""

import threading
import time
from collections.abc import Callable

from toolchain.node.program.supervisor import say
from toolchain.node.program.waiting import StoppedError

RETRY_SECONDS = 1.0
# During an outage of the API server, every watch fails every second.
REPEAT_SECONDS = 60.0


def start(name: str, stop: threading.Event, work: Callable[[], None]) -> None:
    """Runs `work` in a thread until it returns or the node stops; after an error it is retried in 1 s.

    Every error is logged, a repeated one once a minute.
    """

    def run() -> None:
        logged, at = "", 0.0
        while not stop.is_set():
            try:
                work()
            except StoppedError:
                return
            # Any error is retried: without this thread the node would look healthy, but not work.
            except Exception as error:  # noqa: BLE001
                text = f"{name}: {type(error).__name__}: {error}"
                if text != logged or time.monotonic() - at >= REPEAT_SECONDS:
                    say(text)
                    logged, at = text, time.monotonic()
                stop.wait(RETRY_SECONDS)
            else:
                return

    threading.Thread(target=run, name=name, daemon=True).start()
