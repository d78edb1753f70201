"""The programs of the image ``companions``, to be imported by unit tests."""

import asyncio
import contextlib
import importlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).parents[3] / "images" / "companions"


def program(name: str) -> ModuleType:
    """One of the image's modules, ``statistics`` or ``logs.redis``."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return importlib.import_module(f"companions.{name}")


@contextlib.contextmanager
def serving(server: Any) -> Iterator[str]:
    """The URL of a ``web.Server`` that runs in a thread."""
    ready: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    async def serve() -> None:
        task = asyncio.ensure_future(server.serve())
        loop = asyncio.get_running_loop()
        ready.put(lambda: loop.call_soon_threadsafe(task.cancel))
        with contextlib.suppress(asyncio.CancelledError):
            await task

    # Open connections end with it, as they do with the program.
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    stop = ready.get(timeout=30)
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        stop()
        thread.join()
