"""A proxy for a function that may have no pod: ``python3 -m function_runtime.activator``.

A request is queued until a pod is ready, and then forwarded to it. No request is sent twice: after it
was sent, the client gets its response, or an error if there is none.
"""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from aiohttp import web

from function_runtime import front, health, identity, logs
from function_runtime.answers import SEND_SECONDS, Answer, begun, broken_off, busy, refusal, send
from function_runtime.bodies import Bodies, RefusedError
from function_runtime.cluster import Cluster
from function_runtime.pods import BrokenError, PodResponse, Pods, UnreachableError
from function_runtime.server import Server
from function_runtime.waking import FullError, LateError, Limits, Place, Waking, ask_pod, follow

_AT_ONCE_BYTES = 256 * 1024
"""Maximum size of a response that is buffered completely; longer ones are streamed."""


@dataclass(frozen=True)
class Settings:
    """The settings, all set by the component."""

    name: str
    deployment: str
    selector: str
    """Labels of the function's pods."""
    concurrency: int
    most_pods: int
    held: int
    hold_seconds: float
    idle_seconds: float
    timeout: float
    """The function's timeout in seconds."""
    port: int
    health_port: int

    @property
    def longest(self) -> float:
        """Maximum seconds until the response to a request starts."""
        return self.hold_seconds + 2 * self.timeout

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the environment."""
        return cls(
            name=environment["FUNCTION_NAME"],
            deployment=environment["ACTIVATOR_DEPLOYMENT"],
            selector=environment["ACTIVATOR_SELECTOR"],
            concurrency=int(environment["FUNCTION_CONCURRENCY"]),
            most_pods=int(environment["ACTIVATOR_MOST_PODS"]),
            held=int(environment["ACTIVATOR_QUEUE_SIZE"]),
            hold_seconds=float(environment["ACTIVATOR_TIMEOUT_SECONDS"]),
            idle_seconds=float(environment["ACTIVATOR_IDLE_SECONDS"]),
            timeout=float(environment["FUNCTION_TIMEOUT_SECONDS"]),
            port=int(environment["FUNCTION_PORT"]),
            health_port=int(environment["FUNCTION_HEALTH_PORT"]),
        )


class Activator:
    """Forwards requests to the function's pods."""

    def __init__(
        self, waking: Waking, settings: Settings, log: logs.Log, bodies: Bodies | None = None
    ) -> None:
        """Create it; it is used from one event loop."""
        self._waking = waking
        self._settings = settings
        self._log = log
        self._bodies = bodies or Bodies()
        # A queued request has a thread; none is queued while a pod has a free slot.
        self._threads = ThreadPoolExecutor(settings.held, "waits")
        self._waiting = 0
        # A request may be queued in the pod for as long as it may run.
        self._seconds = 2 * settings.timeout + 5
        self._pods = Pods(settings.port, self._seconds)
        self._refused: dict[str, int] = {}

    # for the health port

    @property
    def ready(self) -> bool:
        """Whether the list of the function's pods has been read."""
        return self._waking.ready

    def activity(self) -> dict[str, float]:
        """Numbers of requests that are queued, and that are forwarded."""
        return {"held": self._waking.held, "passed": self._waking.passed}

    def metrics_text(self) -> str:
        """Metrics for Prometheus."""
        label = f'function="{self._settings.name}"'
        waking = self._waking
        lines = [
            "# TYPE activator_held gauge",
            f"activator_held{{{label}}} {waking.held}",
            "# TYPE activator_passed gauge",
            f"activator_passed{{{label}}} {waking.passed}",
            "# TYPE activator_held_bytes gauge",
            f"activator_held_bytes{{{label}}} {self._bodies.held_bytes}",
            "# TYPE activator_wakes_total counter",
            f"activator_wakes_total{{{label}}} {waking.wakes}",
            "# TYPE activator_wake_seconds_total counter",
            f"activator_wake_seconds_total{{{label}}} {waking.woken_seconds:.3f}",
            "# TYPE activator_refused_total counter",
        ]
        lines += [
            f'activator_refused_total{{{label},reason="{reason}"}} {count}'
            for reason, count in sorted(self._refused.copy().items())
        ]
        return "\n".join(lines) + "\n"

    # for requests

    def draining(self) -> None:
        """Refuse requests that are still arriving with a 503, for a retry."""
        self._bodies.close("the activator is shutting down")

    async def close(self) -> None:
        """Close the connections, after the last response."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._pods.close()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Forward one request."""
        ids = identity.of(request.headers)
        identity.current.set(ids)
        answer = await self._answered(request, ids)
        if isinstance(answer, Answer):
            return await send(request, answer)
        return answer

    async def _answered(
        self, request: web.BaseRequest, ids: identity.Identity
    ) -> Answer | web.StreamResponse:
        """The response; it may be sent already."""
        try:
            with await self._bodies.read(request) as body:
                return await self._forward(request, ids, body.data)
        except RefusedError as error:
            return self._refusal(error.kind, error.answer, ids)
        except FullError:
            return self._refusal("full", busy("the queue of requests is full"), ids)
        except LateError as error:
            problem = f"no pod within {self._settings.hold_seconds:g} s"
            self._log.write("error", problem, reason=str(error), detail=error.detail)
            return self._refusal("late", busy(f"{problem}: {error}"), ids)
        except TimeoutError:
            return self._refusal("time", refusal(504, "the function timed out"), ids)
        except BrokenError as error:
            self._log.write("error", str(error))
            return self._refusal("broken", refusal(502, "the function did not respond"), ids)

    def _refusal(self, kind: str, answer: Answer, ids: identity.Identity) -> Answer:
        self._refused[kind] = self._refused.get(kind, 0) + 1
        return replace(answer, headers=(*answer.headers, *ids.headers.items()))

    async def _forward(
        self, request: web.BaseRequest, ids: identity.Identity, body: bytes
    ) -> Answer | web.StreamResponse:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.hold_seconds
        while True:
            place = await self._acquire(max(0.0, until - loop.time()))
            lost = False
            pod = place.pod
            try:
                async with self._pods.request(pod.name, pod.address, request, ids, body) as answer:
                    return await self._send_back(request, answer)
            except UnreachableError:
                # The pod gets no requests until its next successful probe; this one goes to another pod.
                lost = True
            except BrokenError:
                lost = True
                raise
            finally:
                self._waking.give(place, lost=lost)

    async def _acquire(self, seconds: float) -> Place:
        place = self._waking.take_now()
        if place is not None:
            return place
        if self._waiting >= self._settings.held:
            raise FullError
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._waking.take, seconds)
        finally:
            self._waiting -= 1

    async def _send_back(
        self, request: web.BaseRequest, answer: PodResponse
    ) -> Answer | web.StreamResponse:
        if answer.length is not None and answer.length <= _AT_ONCE_BYTES:
            # A slow client must not occupy the pod.
            body = await answer.whole()
            return Answer(answer.status, answer.reason, tuple(answer.headers), body)
        response = begun(answer.status, answer.reason, answer.headers)
        try:
            async with asyncio.timeout(self._seconds + SEND_SECONDS):
                await response.prepare(request)
                while piece := await answer.piece():
                    await response.write(piece)
        except BrokenError as error:
            self._log.write("error", f"the response broke off: {error}")
            raise broken_off(request) from None
        except TimeoutError:
            self._log.write("error", "the response timed out")
            raise broken_off(request) from None
        await response.write_eof()
        return response


def _load(settings: Settings, log: logs.Log) -> Callable[[], Awaitable[web.AppRunner]]:
    cluster = Cluster(settings.deployment, settings.selector, settings.hold_seconds)
    waking = Waking(
        Limits(settings.concurrency, settings.held, settings.idle_seconds),
        cluster,
        lambda address: ask_pod(address, settings.health_port),
        log,
    )

    async def made() -> web.AppRunner:
        activator = Activator(waking, settings, log)
        threading.Thread(target=follow, args=(cluster.watch, waking, log), daemon=True).start()
        threading.Thread(target=waking.run, daemon=True).start()
        probes = await health.serve(activator, settings.health_port)
        return front.runner(activator, settings.longest, probes)

    return made


def main() -> None:
    """Run until SIGTERM, then finish the requests in flight."""
    settings = Settings.load()
    log = logs.take_over(settings.name, os.environ.get("LOG_LEVEL", "INFO").upper())
    Server(f"0.0.0.0:{settings.port}", settings.longest, lambda: _load(settings, log)).run()


if __name__ == "__main__":
    main()
