"""Run the function until SIGTERM."""

import os
import sys
from collections.abc import Awaitable, Callable

import functions_framework
from aiohttp import web
from werkzeug.exceptions import HTTPException

from function_runtime import entry_file, front, health, logs
from function_runtime.limits import Limited
from function_runtime.refusals import as_json
from function_runtime.server import Server
from function_runtime.settings import SIGNATURES, Settings


def _load(settings: Settings, log: logs.Log) -> Callable[[], Awaitable[web.AppRunner]]:
    if settings.signature == "context":
        # The framework does not know the book's signature; entry.py has one that it knows.
        application = functions_framework.create_app("entry", entry_file(), "http")
    else:
        application = functions_framework.create_app(
            settings.target, settings.source, settings.signature
        )
    if settings.signature != "http":
        # A function with Flask's signature keeps Flask's own errors.
        application.register_error_handler(HTTPException, as_json)

    async def made() -> web.AppRunner:
        limited = Limited(application, settings, log)
        probes = await health.serve(limited, settings.health_port)
        return front.runner(limited, settings.timeout, probes)

    return made


def main() -> None:
    """Run."""
    settings = Settings.load()
    if settings.signature not in SIGNATURES:
        sys.exit(f"FUNCTION_FORM is {settings.signature!r}; must be one of {', '.join(SIGNATURES)}")
    log = logs.take_over(settings.name, os.environ.get("LOG_LEVEL", "INFO").upper())
    Server(f"{settings.host}:{settings.port}", settings.timeout, lambda: _load(settings, log)).run()


if __name__ == "__main__":
    main()
