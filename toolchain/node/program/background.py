"""Work beside the main line: a thread that does not die of one error."""

import threading
from collections.abc import Callable

from toolchain.node.program.supervisor import say
from toolchain.node.program.waiting import StoppedError

RETRY_SECONDS = 2.0


def start(name: str, stop: threading.Event, work: Callable[[], None]) -> None:
    """Runs `work` in a thread until it returns or the node stops; after an error it is run again in 2 s."""

    def run() -> None:
        while not stop.is_set():
            try:
                work()
            except StoppedError:
                return
            # Whatever it was: without this thread the node would look well and do half its work.
            except Exception as error:  # noqa: BLE001
                say(f"{name}: {type(error).__name__}: {error}")
                stop.wait(RETRY_SECONDS)
            else:
                return

    threading.Thread(target=run, name=name, daemon=True).start()
