"""Work beside the main line: a thread that does not die of one error."""

import threading
import time
from collections.abc import Callable

from toolchain.node.program.supervisor import say
from toolchain.node.program.waiting import StoppedError

RETRY_SECONDS = 1.0
# While the API server is down every watch fails every second.
REPEAT_SECONDS = 60.0


def start(name: str, stop: threading.Event, work: Callable[[], None]) -> None:
    """Runs `work` in a thread until it returns or the node stops; after an error it is run again in 1 s.

    Every error is said, one that comes again and again once a minute.
    """

    def run() -> None:
        said, at = "", 0.0
        while not stop.is_set():
            try:
                work()
            except StoppedError:
                return
            # Whatever it was: without this thread the node would look well and do half its work.
            except Exception as error:  # noqa: BLE001
                text = f"{name}: {type(error).__name__}: {error}"
                if text != said or time.monotonic() - at >= REPEAT_SECONDS:
                    say(text)
                    said, at = text, time.monotonic()
                stop.wait(RETRY_SECONDS)
            else:
                return

    threading.Thread(target=run, name=name, daemon=True).start()
