"""The leader-election sidecar: ``python3 -m elector``."""

import argparse
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from elector.election import Election
from elector.etcd import Etcd
from elector.etcd_lock import EtcdLock
from elector.lease_lock import ACCOUNT, LeaseLock
from elector.lock import Lock
from elector.metrics import Metrics
from elector.notify import Notifier, Signal, Target, Url
from elector.server import Local, Public, serve
from elector.transport import Transport

_LOOPBACK = "127.0.0.1"
_SHORTEST_TRY, _LONGEST_TRY = 0.25, 2.0
# How long a shutdown waits for the notification of the application before it releases the lock.
_NOTIFY_SECONDS = 1.0


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse and validate the command line."""
    parser = argparse.ArgumentParser(prog="elector", description=__doc__)
    parser.add_argument("--backend", choices=("etcd", "lease"), required=True)
    parser.add_argument("--election", required=True, help="name of the election")
    parser.add_argument("--identity", default=socket.gethostname(), help="default: the pod's name")
    parser.add_argument(
        "--ttl", type=float, required=True, help="time to live of the lock, seconds, at least 2"
    )
    parser.add_argument(
        "--renew",
        type=float,
        required=True,
        help="interval of renewals, seconds, at most half the TTL",
    )
    parser.add_argument(
        "--margin",
        type=float,
        required=True,
        help="seconds before the TTL ends at which leading ends",
    )
    parser.add_argument(
        "--worker-seconds",
        type=float,
        help="without a request of the application after which it counts as failed; default: never",
    )
    parser.add_argument("--port", type=int, default=4040, help="API for the pod, on loopback")
    parser.add_argument(
        "--metrics-port", type=int, default=4041, help="health and metrics for the cluster"
    )
    parser.add_argument(
        "--endpoint",
        action="append",
        default=[],
        help="URL of an etcd member, may be repeated; or of the API server",
    )
    parser.add_argument("--ca-file", type=Path, help="CA of the store's certificates")
    parser.add_argument("--username", default="")
    parser.add_argument("--password-file", type=Path)
    parser.add_argument("--key", help="etcd: the key; lease: the Lease's name")
    parser.add_argument("--namespace", default="", help="of the Lease; default: the pod's")
    parser.add_argument("--token-file", type=Path, default=ACCOUNT / "token", help="for a Lease")
    parser.add_argument("--on-change-url", default="", help="URL that gets a POST at each change")
    parser.add_argument(
        "--on-change-signal", default="", help="signal sent at each change, such as HUP"
    )
    parser.add_argument(
        "--on-change-process", default="", help="name of the process that gets the signal"
    )
    given = parser.parse_args(argv)
    if given.ttl < 2:  # noqa: PLR2004 (etcd's shortest)
        parser.error("--ttl must be at least 2")
    if not 0 < given.renew <= given.ttl / 2:
        parser.error("--renew must be at most half of --ttl")
    if not 0 < given.margin <= given.ttl / 4:
        parser.error("--margin must be at most a quarter of --ttl")
    if given.worker_seconds is not None and not 0 < given.worker_seconds < math.inf:
        parser.error("--worker-seconds must be above 0")
    if given.backend == "etcd" and not given.endpoint:
        parser.error("--endpoint is required with --backend etcd")
    if given.on_change_url:
        try:
            Url(given.on_change_url)
        except ValueError as error:
            parser.error(f"--on-change-url {error}")
    if bool(given.on_change_signal) != bool(given.on_change_process):
        parser.error("--on-change-signal and --on-change-process must be given together")
    return given


def make_lock(given: argparse.Namespace) -> Lock:
    """The lock that the arguments describe."""
    endpoints = given.endpoint or [_api_server()]
    attempt = _attempt_seconds(given.ttl - given.margin - given.renew, len(endpoints))
    key = given.key or given.election
    if given.backend == "etcd":
        transport = Transport(endpoints, str(given.ca_file) if given.ca_file else True, attempt)
        etcd = Etcd(transport, given.username, given.password_file)
        return EtcdLock(etcd, key, given.identity, given.ttl, given.margin)
    ca_file = given.ca_file or ACCOUNT / "ca.crt"
    transport = Transport(endpoints, str(ca_file), attempt)
    namespace = given.namespace or (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    return LeaseLock(
        transport,
        namespace,
        key,
        given.identity,
        given.ttl,
        given.margin,
        token_file=given.token_file,
    )


def _attempt_seconds(spare: float, endpoints: int) -> float:
    """Timeout of one attempt at one endpoint.

    :param spare: seconds from a failed renewal to the end of leadership
    """
    if endpoints == 1:
        # There is no other endpoint; the second attempt is for a dead connection.
        return max(spare * 2 / 3, _SHORTEST_TRY)
    return min(max(spare / (endpoints + 1), _SHORTEST_TRY), _LONGEST_TRY)


def _api_server() -> str:
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    port = os.environ.get("KUBERNETES_SERVICE_PORT_HTTPS", "443")
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"


def target(given: argparse.Namespace) -> Target | None:
    """The target of notifications; None without one."""
    if given.on_change_url:
        return Url(given.on_change_url)
    if given.on_change_signal:
        return Signal(given.on_change_process, given.on_change_signal)
    return None


def main(argv: Sequence[str]) -> int:
    """Take part in the election until SIGTERM; then release the lock and exit."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    given = arguments(argv)
    metrics = Metrics()
    notified = target(given)
    notifier = None if notified is None else Notifier(notified, metrics)
    election = Election(
        given.election,
        make_lock(given),
        given.renew,
        metrics,
        None if notifier is None else notifier.post,
        (lambda: True) if notifier is None else (lambda: notifier.alive),
        worker_seconds=given.worker_seconds,
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        option = "--port", given.port
        local = serve(election, Local, _LOOPBACK, given.port)
        option = "--metrics-port", given.metrics_port
        public = serve(election, Public, "", given.metrics_port)
    except OSError as error:
        print(f"{option[0]} {option[1]}: the port must be free: {error}", file=sys.stderr)
        return 1
    election.start()
    ended.wait()
    election.stop(None if notifier is None else lambda: _settle(notifier))
    for server in (local, public):
        server.shutdown()
        server.server_close()
    return 0


def _settle(notifier: Notifier) -> None:
    notifier.settle(_NOTIFY_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
