"""The function image's server on the loopback, without gunicorn before it."""

import asyncio
import contextlib
import http.client
import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

IMAGE = Path(__file__).parents[3] / "images" / "function"

Got = tuple[int, dict[str, str], bytes]


@contextlib.contextmanager
def runtime(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> Iterator[Any]:
    """The runtime's own modules, as they are imported in the image."""
    monkeypatch.syspath_prepend(str(IMAGE))
    # gunicorn is in the image only.
    monkeypatch.setitem(sys.modules, "function_runtime.server", type(sys)("server"))
    sys.modules["function_runtime.server"].Server = object  # type: ignore[attr-defined]
    for name in names:
        importlib.import_module(f"function_runtime.{name}")
    yield sys.modules["function_runtime"]
    for name in [name for name in sys.modules if name.startswith("function_runtime")]:
        del sys.modules[name]


class Served:
    """One handler of the image, with its event loop in a thread of its own."""

    def __init__(self, modules: Any, handler: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        health: Any = importlib.import_module("function_runtime.health")
        probes = self._in_loop(health.serve(handler, 0))
        self.health_port = int(probes.addresses[0][1])
        self._runner = modules.front.runner(handler, 20, probes)
        self.port = self._in_loop(self._started())

    def _in_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def run(self, function: Callable[..., Any], *given: Any) -> None:
        """Call something in the loop's thread."""

        async def run() -> None:
            function(*given)

        self._in_loop(run())

    async def _started(self) -> int:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return int(self._runner.addresses[0][1])

    def close(self) -> None:
        """As on SIGTERM: requests in progress are answered first."""
        self._in_loop(self._ended())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _ended(self) -> None:
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def call(self, body: bytes = b"", method: str = "POST", target: str = "/", **more: str) -> Got:
        """The response to one request; its headers by their names in lower case."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {key.replace("_", "-"): value for key, value in more.items()}
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            given = {key.lower(): value for key, value in answer.getheaders()}
            return answer.status, given, answer.read()
        finally:
            connection.close()
