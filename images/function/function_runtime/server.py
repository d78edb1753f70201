"""gunicorn with one process, and a thread for every request."""

from collections.abc import Callable
from typing import Any

import gunicorn.app.base
import gunicorn.glogging


class _Logger(gunicorn.glogging.Logger):
    """Sends gunicorn's own lines the way of all others."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers[:] = []
        self.error_log.propagate = True


class Server(gunicorn.app.base.BaseApplication):
    """Serves one application until SIGTERM."""

    def __init__(
        self,
        address: str,
        threads: int,
        seconds: int,
        make: Callable[[], Any],
        started: Callable[[], None],
    ) -> None:
        """Describe the server.

        :param address: ``host:port``
        :param threads: most requests at a time
        :param seconds: longest that one of them takes
        :param make: makes the application, in the process that serves
        :param started: called there when the port is open
        """
        self._options = {
            "bind": address,
            "workers": 1,
            "worker_class": "gthread",
            "threads": threads,
            "worker_connections": 4 * threads + 100,
            # Its own limit is for a process that is stuck as a whole.
            "timeout": seconds + 30,
            "graceful_timeout": seconds + 5,
            "keepalive": 75,
            "worker_tmp_dir": "/dev/shm",  # noqa: S108
            "control_socket_disable": True,
            "loglevel": "warning",
            "logger_class": _Logger,
            "post_worker_init": lambda _: started(),
        }
        self._make = make
        super().__init__()

    def load_config(self) -> None:
        """Set what gunicorn reads."""
        for key, value in self._options.items():
            self.cfg.set(key, value)

    def load(self) -> Any:
        """Make the application; an error ends the container, and is in its log."""
        return self._make()
