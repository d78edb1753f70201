"""Health and metrics on a port of their own, answered while all of the function's places are taken.

They are answered by the event loop, which no function runs in; where it is stuck, they are not, and
that is what health is asked for.
"""

from typing import Protocol

from aiohttp import web

from function_runtime.connections import Runner

_KEEPALIVE_SECONDS = 30.0
_MOST_CONNECTIONS = 64
_METRICS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


class Watched(Protocol):
    """What is asked."""

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""

    def measured(self) -> str:
        """Metrics for Prometheus."""

    def activity(self) -> dict[str, float]:
        """What goes on, for who decides whether it is needed."""


async def serve(watched: Watched, port: int) -> web.AppRunner:
    """Answer until the runner is cleaned up.

    :param port: 0 for any that is free
    """

    async def answer(request: web.Request) -> web.Response:
        """Health, readiness and metrics; nothing here is the function's."""
        status = 200 if watched.ready else 503
        match request.path:
            case "/healthz":
                return web.json_response({"alive": True})
            case "/readyz":
                return web.json_response({"ready": watched.ready}, status=status)
            case "/activity":
                return web.json_response(watched.activity(), status=status)
            case "/metrics":
                return web.Response(text=watched.measured(), headers=_METRICS)
        error = "there is /healthz, /readyz, /activity and /metrics"
        return web.json_response({"error": error}, status=404)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    # No request is logged: they are probes.
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
