"""Stands before a function that may have no pod: ``python3 -m function_runtime.activator``.

A request waits here until a pod is ready, and is handed on to it. Nothing is handed on twice: once
a request was sent, its answer, or that there is none, goes to the caller.
"""

import contextlib
import http.client
import io
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from function_runtime import health, identity, logs, upstream
from function_runtime.cluster import Cluster
from function_runtime.limits import MOST_BYTES, refusal
from function_runtime.server import Server
from function_runtime.waking import FullError, LateError, Limits, Place, Waking, ask_pod, follow

MOST_HELD_BYTES = 32 * 2**20
"""Bodies of all requests that are here at a time."""

_CONNECT_SECONDS = 1.0
_SPARE_THREADS = 8
_CHUNK = 65536


@dataclass(frozen=True)
class Settings:
    """How it is run. The component sets each of these."""

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
    """Seconds that the function may take."""
    port: int
    health_port: int

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the environment."""
        return cls(
            name=environment["FUNCTION_NAME"],
            deployment=environment["ACTIVATOR_DEPLOYMENT"],
            selector=environment["ACTIVATOR_SELECTOR"],
            concurrency=int(environment["FUNCTION_CONCURRENCY"]),
            most_pods=int(environment["ACTIVATOR_MOST_PODS"]),
            held=int(environment["ACTIVATOR_HELD"]),
            hold_seconds=float(environment["ACTIVATOR_HOLD_SECONDS"]),
            idle_seconds=float(environment["ACTIVATOR_IDLE_SECONDS"]),
            timeout=float(environment["FUNCTION_TIMEOUT_SECONDS"]),
            port=int(environment["FUNCTION_PORT"]),
            health_port=int(environment["FUNCTION_HEALTH_PORT"]),
        )


class Activator:
    """A WSGI application before the function's pods."""

    def __init__(self, waking: Waking, settings: Settings, log: logs.Log) -> None:
        self._waking = waking
        self._settings = settings
        self._log = log
        self._bytes = 0
        self._mutex = threading.Lock()
        self._refused: dict[str, int] = {}

    # for the health port

    @property
    def ready(self) -> bool:
        """Whether the function's pods are known."""
        return self._waking.ready

    def activity(self) -> dict[str, float]:
        """Requests that are held, and that pods have."""
        return {"held": self._waking.held, "passed": self._waking.passed}

    def measured(self) -> str:
        """Metrics for Prometheus."""
        label = f'function="{self._settings.name}"'
        waking = self._waking
        lines = [
            "# TYPE activator_held gauge",
            f"activator_held{{{label}}} {waking.held}",
            "# TYPE activator_passed gauge",
            f"activator_passed{{{label}}} {waking.passed}",
            "# TYPE activator_wakes_total counter",
            f"activator_wakes_total{{{label}}} {waking.wakes}",
            "# TYPE activator_wake_seconds_total counter",
            f"activator_wake_seconds_total{{{label}}} {waking.woken_seconds:.3f}",
            "# TYPE activator_refused_total counter",
        ]
        with self._mutex:
            lines += [
                f'activator_refused_total{{{label},reason="{reason}"}} {count}'
                for reason, count in sorted(self._refused.items())
            ]
        return "\n".join(lines) + "\n"

    # for requests

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Hand one request on."""
        who = identity.of(environ)
        token = identity.current.set(who)
        try:
            return self._handed_on(environ, start_response, who)
        finally:
            identity.current.reset(token)

    def _handed_on(
        self, environ: dict[str, Any], start_response: Callable[..., Any], who: identity.Identity
    ) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(MOST_BYTES + 1)
        size = len(body)
        if size > MOST_BYTES:
            return self._refuse(
                start_response,
                who,
                "413 Content Too Large",
                "length",
                f"more than {MOST_BYTES} bytes",
            )
        with self._mutex:
            fits = self._bytes + size <= MOST_HELD_BYTES
            self._bytes += size if fits else 0
        if not fits:
            return self._busy(start_response, who, "bytes", "too much is held")
        with contextlib.ExitStack() as undo:
            undo.callback(self._free, size)
            try:
                place, connection = self._connected()
            except FullError:
                return self._busy(start_response, who, "full", "as many requests wait as may")
            except LateError as error:
                self._log.write(
                    "error", f"no pod within {self._settings.hold_seconds:g} s", reason=str(error),
                    detail=error.detail,
                )  # fmt: skip
                said = f"no pod within {self._settings.hold_seconds:g} s: {error}"
                return self._busy(start_response, who, "late", said)
            undo.callback(connection.close)
            lost = undo.enter_context(self._given_back(place))
            try:
                _send(connection, environ, who, body)
                answer = connection.getresponse()
            except TimeoutError:
                return self._refuse(
                    start_response, who, "504 Gateway Timeout", "time", "the function is late"
                )
            except (OSError, http.client.HTTPException) as error:
                lost.append(place)
                self._log.write("error", f"{place.pod.name}: {type(error).__name__}: {error}")
                return self._refuse(
                    start_response, who, "502 Bad Gateway", "broken", "the function did not answer"
                )
            start_response(f"{answer.status} {answer.reason}", _passed_back(answer))
            return _Body(answer, undo.pop_all())

    def _connected(self) -> tuple[Place, http.client.HTTPConnection]:
        """A connection to a pod; a pod that cannot be reached is asked again later."""
        until = time.monotonic() + self._settings.hold_seconds
        while True:
            place = self._waking.take(max(0.0, until - time.monotonic()))
            connection = http.client.HTTPConnection(
                place.pod.address, self._settings.port, timeout=_CONNECT_SECONDS
            )
            try:
                connection.connect()
            except OSError:
                self._waking.give(place, lost=True)
                continue
            # It may wait in the pod for as long as it may run.
            connection.sock.settimeout(2 * self._settings.timeout + 5)
            return place, connection

    @contextlib.contextmanager
    def _given_back(self, place: Place) -> Iterator[list[Place]]:
        lost: list[Place] = []
        try:
            yield lost
        finally:
            self._waking.give(place, lost=bool(lost))

    def _free(self, size: int) -> None:
        with self._mutex:
            self._bytes -= size

    def _busy(
        self, start_response: Callable[..., Any], who: identity.Identity, kind: str, said: str
    ) -> Iterable[bytes]:
        return self._refuse(
            start_response, who, "503 Service Unavailable", kind, said, ("Retry-After", "1")
        )

    def _refuse(
        self,
        start_response: Callable[..., Any],
        who: identity.Identity,
        status: str,
        kind: str,
        said: str,
        *more: tuple[str, str],
    ) -> Iterable[bytes]:
        with self._mutex:
            self._refused[kind] = self._refused.get(kind, 0) + 1
        status, headers, body = refusal(status, said, *more)
        start_response(status, [*headers, *who.headers.items()])
        return [body]


class _Body:
    """An answer on its way; the place is given back when all of it was sent."""

    def __init__(self, answer: http.client.HTTPResponse, undo: contextlib.ExitStack) -> None:
        self._answer = answer
        self._undo = undo

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._answer.read(_CHUNK):
            yield chunk

    def close(self) -> None:
        self._undo.close()


def _send(
    connection: http.client.HTTPConnection,
    environ: Mapping[str, Any],
    who: identity.Identity,
    body: bytes,
) -> None:
    headers = {
        key[5:].replace("_", "-").title(): str(value)
        for key, value in environ.items()
        if key.startswith("HTTP_")
    }
    headers = {k: v for k, v in headers.items() if k.lower() not in upstream.HOPS}
    if environ.get("CONTENT_TYPE"):
        headers["Content-Type"] = environ["CONTENT_TYPE"]
    headers["X-Request-Id"] = who.request_id
    method = environ["REQUEST_METHOD"]
    if body or method not in ("GET", "HEAD", "OPTIONS", "DELETE"):
        headers["Content-Length"] = str(len(body))
    connection.request(method, environ["RAW_URI"], io.BytesIO(body) if body else None, headers)


def _passed_back(answer: http.client.HTTPResponse) -> list[tuple[str, str]]:
    kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in upstream.HOPS]
    length = answer.getheader("Content-Length")
    return kept if length is None else [*kept, ("Content-Length", length)]


def main() -> None:
    """Run until SIGTERM; what is held then is finished."""
    settings = Settings.load()
    log = logs.take_over(settings.name, os.environ.get("LOG_LEVEL", "INFO").upper())
    cluster = Cluster(settings.deployment, settings.selector)
    waking = Waking(
        Limits(settings.concurrency, settings.held, settings.idle_seconds),
        cluster,
        lambda address: ask_pod(address, settings.health_port),
        log,
    )
    activator = Activator(waking, settings, log)

    def started() -> None:
        threading.Thread(target=follow, args=(cluster.watch, waking, log), daemon=True).start()
        threading.Thread(target=waking.run, daemon=True).start()
        health.serve(activator, settings.health_port)

    Server(
        f"0.0.0.0:{settings.port}",
        settings.held + settings.concurrency * settings.most_pods + _SPARE_THREADS,
        int(settings.hold_seconds + 2 * settings.timeout),
        lambda: activator,
        started,
    ).run()


if __name__ == "__main__":
    main()
