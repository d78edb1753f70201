"""Run the function until SIGTERM."""

import os
import sys

import functions_framework
from werkzeug.exceptions import HTTPException

from function_runtime import entry_file, health, logs
from function_runtime.limits import Limited
from function_runtime.refusals import as_json
from function_runtime.server import Server
from function_runtime.settings import SIGNATURES, Settings

_SPARE_THREADS = 4


class _Function:
    def __init__(self, settings: Settings, log: logs.Log) -> None:
        self._settings = settings
        self._log = log
        self._limited: Limited | None = None

    def load(self) -> Limited:
        settings = self._settings
        if settings.signature == "context":
            # The framework has no signature of the book's form; entry.py is of its own form.
            application = functions_framework.create_app("entry", entry_file(), "http")
        else:
            application = functions_framework.create_app(
                settings.target, settings.source, settings.signature
            )
        if settings.signature != "http":
            # Who wrote for Flask's own request has Flask's own errors.
            application.register_error_handler(HTTPException, as_json)
        self._limited = Limited(application, settings, self._log)
        return self._limited

    def started(self) -> None:
        if self._limited is None:
            raise RuntimeError("not loaded")
        self._limited.start()
        health.serve(self._limited, self._settings.health_port)


def main() -> None:
    """Run."""
    settings = Settings.load()
    if settings.signature not in SIGNATURES:
        sys.exit(f"FUNCTION_FORM is {settings.signature!r}; one of {', '.join(SIGNATURES)}")
    log = logs.take_over(settings.name, os.environ.get("LOG_LEVEL", "INFO").upper())
    function = _Function(settings, log)
    Server(
        f"{settings.host}:{settings.port}",
        settings.concurrency + settings.waiting + _SPARE_THREADS,
        int(settings.timeout),
        function.load,
        function.started,
    ).run()


if __name__ == "__main__":
    main()
