"""gunicorn, which has the port and replaces the process that serves; that one is aiohttp's."""

import gc
from collections.abc import Awaitable, Callable
from typing import Any

import gunicorn.app.base
import gunicorn.glogging
from aiohttp import web


class _Logger(gunicorn.glogging.Logger):
    """Sends gunicorn's own lines the way of all others."""

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
        :param seconds: longest that one request takes
        :param make: loads what serves, in the process that does, and returns what makes the runner
        """
        self._options = {
            "bind": address,
            "workers": 1,
            "worker_class": "aiohttp.GunicornWebWorker",
            # Its own limit is for a process that is stuck as a whole.
            "timeout": int(seconds) + 30,
            "graceful_timeout": int(seconds) + 5,
            "worker_tmp_dir": "/dev/shm",  # noqa: S108
            "control_socket_disable": True,
            "loglevel": "warning",
            "logger_class": _Logger,
            # Collecting garbage would write to all objects that the two processes share.
            "pre_fork": lambda _, __: gc.freeze(),
        }
        self._make = make
        super().__init__()

    def load_config(self) -> None:
        """Set what gunicorn reads."""
        for key, value in self._options.items():
            self.cfg.set(key, value)

    def load(self) -> Any:
        """Make what serves; an error ends the container, and is in its log."""
        return self._make()
