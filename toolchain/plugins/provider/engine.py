"""Messages to the engine that started the plugin: diagnostics and progress."""

from __future__ import annotations

import threading
import time

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

_SECONDS = 5.0
# Without a terminal every message is a line of the log, which a push would fill.
_PROGRESS_INTERVAL = 2.0


class Engine:
    """The engine's log. Messages that cannot be delivered are dropped.

    :param address: host and port, as given on the plugin's command line
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._stub: engine_pb2_grpc.EngineStub | None = None
        self._shown: dict[str, float] = {}

    def progress(self, urn: str, message: str) -> None:
        """Prints an ephemeral line for the resource, at most one in two seconds."""
        now = time.monotonic()
        if now - self._shown.get(urn, -_PROGRESS_INTERVAL) < _PROGRESS_INTERVAL:
            return
        self._shown[urn] = now
        self._log(engine_pb2.INFO, urn, message, ephemeral=True)

    def debug(self, urn: str, message: str) -> None:
        """Logs a line that is only printed with ``--debug``."""
        self._log(engine_pb2.DEBUG, urn, message)

    def _log(
        self,
        severity: engine_pb2.LogSeverity.ValueType,
        urn: str,
        message: str,
        *,
        ephemeral: bool = False,
    ) -> None:
        request = engine_pb2.LogRequest(
            severity=severity, urn=urn, message=message, ephemeral=ephemeral
        )
        try:
            self._connection().Log(request, timeout=_SECONDS)
        except (grpc.RpcError, ValueError):
            return

    def _connection(self) -> engine_pb2_grpc.EngineStub:
        with self._lock:
            if self._stub is None:
                self._stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(self._address))
            return self._stub
