"""gunicorn, which owns the port and replaces the worker process, in which aiohttp serves."""

import gc
from collections.abc import Awaitable, Callable
from typing import Any

import gunicorn.app.base
import gunicorn.glogging
from aiohttp import web


class _Logger(gunicorn.glogging.Logger):
    """Sends gunicorn's log through the root logger."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers[:] = []
        self.error_log.propagate = True


class Server(gunicorn.app.base.BaseApplication):
    """Serves until SIGTERM."""

    def __init__(
        self,
        address: str,
        seconds: float,
        make: Callable[[], Callable[[], Awaitable[web.AppRunner]]],
    ) -> None:
        """Describe the server.

        :param address: ``host:port``
        :param seconds: timeout of a request
        :param make: loads the application in the worker process, and returns a factory of its runner
        """
        self._options = {
            "bind": address,
            "workers": 1,
            "worker_class": "aiohttp.GunicornWebWorker",
            # gunicorn's own timeout is for a worker that hangs as a whole.
            "timeout": int(seconds) + 30,
            "graceful_timeout": int(seconds) + 5,
            "worker_tmp_dir": "/dev/shm",  # noqa: S108
            "control_socket_disable": True,
            "loglevel": "warning",
            "logger_class": _Logger,
            # Garbage collection would copy the memory pages that the two processes share.
            "pre_fork": lambda _, __: gc.freeze(),
        }
        self._make = make
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's options."""
        for key, value in self._options.items():
            self.cfg.set(key, value)

    def load(self) -> Any:
        """Load the application; an error is logged and exits the container."""
        return self._make()
