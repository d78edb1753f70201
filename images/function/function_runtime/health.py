"""Health and metrics on a port of their own, which work while all of the function's slots are busy.

The event loop serves them, in which no function runs; if it hangs, the probes fail, as they should.
"""

from typing import Protocol

from aiohttp import web

from function_runtime.connections import Runner

_KEEPALIVE_SECONDS = 30.0
_MOST_CONNECTIONS = 64
_METRICS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


class Watched(Protocol):
    """The state that is reported."""

    @property
    def ready(self) -> bool:
        """Whether it accepts new requests."""

    def metrics_text(self) -> str:
        """Metrics for Prometheus."""

    def activity(self) -> dict[str, float]:
        """The load, for an activator that scales it."""


async def serve(watched: Watched, port: int) -> web.AppRunner:
    """Serve until the runner is cleaned up.

    :param port: 0 for any free port
    """

    async def answer(request: web.Request) -> web.Response:
        """Health, readiness, activity and metrics."""
        status = 200 if watched.ready else 503
        match request.path:
            case "/healthz":
                return web.json_response({"alive": True})
            case "/readyz":
                return web.json_response({"ready": watched.ready}, status=status)
            case "/activity":
                return web.json_response(watched.activity(), status=status)
            case "/metrics":
                return web.Response(text=watched.metrics_text(), headers=_METRICS)
        error = "not one of /healthz, /readyz, /activity, /metrics"
        return web.json_response({"error": error}, status=404)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    # Probes are not logged.
    runner = Runner(
        application,
        most=_MOST_CONNECTIONS,
        access_log=None,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        shutdown_timeout=1,
    )
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()  # noqa: S104
    return runner
