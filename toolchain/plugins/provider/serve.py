"""Runs a provider as a plugin of Pulumi's engine."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from typing import TYPE_CHECKING

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from toolchain.plugins.provider.cancellation import Cancellation
from toolchain.plugins.provider.engine import Engine
from toolchain.plugins.provider.servicer import Servicer

if TYPE_CHECKING:
    from toolchain.plugins.provider.provider import Provider

# A waiting operation occupies its thread; threads are created on demand.
_THREADS = 512
_MESSAGE_BYTES = 400 * 1024 * 1024


def serve(
    make: Callable[[Engine, Cancellation], Provider], version: str, arguments: list[str]
) -> None:
    """Serves until a signal, then exits after the running operations.

    :param make: creates the provider
    :param version: the version of the official plugin that this one replaces
    :param arguments: the command line without the program's name; first the engine's address
    """
    parser = argparse.ArgumentParser(prog="pulumi-resource-plugin")
    parser.add_argument("engine")
    known, _ = parser.parse_known_args(arguments)
    ended = threading.Event()
    cancellation = Cancellation()
    server = grpc.server(
        futures.ThreadPoolExecutor(_THREADS),
        options=[
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
        ],
    )
    servicer = Servicer(make(Engine(known.engine), cancellation), version)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")

    def interrupted(*_: object) -> None:
        # Running operations respond first, so that the engine can record existing objects. In a
        # thread, because the handler may interrupt the holder of a lock that it needs.
        threading.Thread(target=_wind_up, args=(cancellation, servicer, ended), daemon=True).start()

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    ended.wait()
    cancellation.request()
    server.stop(grace=0.2).wait()
    # Threads that wait for the network must not delay the exit.
    os._exit(0)


def _wind_up(cancellation: Cancellation, servicer: Servicer, ended: threading.Event) -> None:
    cancellation.request()
    servicer.calls.when_idle(ended.set)
