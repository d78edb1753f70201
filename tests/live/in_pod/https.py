"""An HTTPS client that runs in a pod: one JSON request on stdin, one JSON answer on stdout.

``at`` says where: host, port, and, unless it is plain HTTP, ``ca`` (a file), optionally ``name``
(the name in the certificate), ``cert`` and ``key`` (files), ``oldest`` and ``newest`` (of TLS),
``curve`` (the only one that keys are exchanged with).
"""

import ctypes
import http.client
import json
import socket
import ssl
import sys
import threading
import time
import warnings
from collections import Counter
from typing import Any

VERSIONS = {
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_HEX = 16
_SET_GROUPS_LIST = 92


def exchange_keys_with(context: ssl.SSLContext, group: str) -> None:
    """Offer one group only. ``set_ecdh_curve`` knows neither X25519 nor X448, so OpenSSL is asked."""
    control = ctypes.CDLL("libssl.so.3").SSL_CTX_ctrl
    control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p]
    # What CPython's object has behind its head is OpenSSL's.
    inside = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    if not control(inside, _SET_GROUPS_LIST, 0, group.encode()):
        raise ValueError(f"OpenSSL knows no group {group}")


def context_of(at: dict[str, Any]) -> ssl.SSLContext | None:
    if "ca" not in at:
        return None
    context = ssl.create_default_context(cafile=at["ca"])
    with warnings.catch_warnings():
        # Old versions are asked for to see them refused.
        warnings.simplefilter("ignore")
        if "oldest" in at:
            context.minimum_version = VERSIONS[at["oldest"]]
        if "newest" in at:
            # Debian's OpenSSL would not even offer them.
            context.set_ciphers("DEFAULT@SECLEVEL=0")
            context.minimum_version = min(context.minimum_version, VERSIONS[at["newest"]])
            context.maximum_version = VERSIONS[at["newest"]]
    if "curve" in at:
        exchange_keys_with(context, at["curve"])
    if "cert" in at:
        context.load_cert_chain(at["cert"], at["key"])
    return context


class Link:
    """One connection, made anew when the server has closed it."""

    def __init__(self, at: dict[str, Any], timeout: float) -> None:
        self.at = at
        self.timeout = timeout
        self.context = context_of(at)
        self.connection: http.client.HTTPConnection | None = None
        self.made = 0
        self.serials: set[str] = set()

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Any:
        if self.connection is None or self.connection.sock is None:
            self._connect()
        assert self.connection is not None
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        return answer, answer.read()

    def _connect(self) -> None:
        host, port = self.at["host"], self.at["port"]
        connection = http.client.HTTPConnection(host, port, timeout=self.timeout)
        connection.connect()
        if self.context is not None:
            name = self.at.get("name", host)
            sock = self.context.wrap_socket(connection.sock, server_hostname=name)
            certificate: dict[str, Any] = sock.getpeercert() or {}
            self.serials.add(f"{int(certificate['serialNumber'], _HEX):x}")
            connection.sock = sock
        self.connection = connection
        self.made += 1

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None


def get(request: dict[str, Any]) -> dict[str, Any]:
    """One request; an answer, or ``error`` with status 0."""
    link = Link(request["at"], request.get("timeout", 5))
    try:
        answer, body = link.ask(
            request.get("method", "GET"), request.get("path", "/"), request.get("headers", {}),
            request["body"].encode() if "body" in request else None,
        )  # fmt: skip
    except (OSError, http.client.HTTPException) as error:
        return {"status": 0, "error": kind(error)}
    sock = link.connection.sock if link.connection else None
    tls = {"version": sock.version(), "cipher": sock.cipher()[0]} if hasattr(sock, "cipher") else {}
    link.drop()
    return {
        "status": answer.status,
        "headers": {name.lower(): value for name, value in answer.getheaders()},
        "body": body.decode(errors="replace"),
        "serial": next(iter(link.serials), None),
        **tls,
    }


def gets(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers to several requests, asked one after the other."""
    return [get(one) for one in request["requests"]]


def resumed(request: dict[str, Any]) -> bool:
    """Whether any of some connections could take up the session of the one before.

    The pods behind an address know their own sessions only, so two connections alone say little.
    """
    at = request["at"]
    context = context_of(at)
    assert context is not None
    session = None
    for _ in range(20):
        plain = socket.create_connection((at["host"], at["port"]), timeout=30)
        with context.wrap_socket(plain, server_hostname=at["host"], session=session) as sock:
            if sock.session_reused:
                return True
            # What a session is taken up with comes with the first answer, from TLS 1.3 on.
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {at['host']}\r\n\r\n".encode())
            assert b" 200 " in sock.recv(65536)
            session = sock.session
    return False


class Asker(threading.Thread):
    """One client that keeps its connection and waits ``pause`` seconds between requests."""

    def __init__(self, request: dict[str, Any], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.request = request
        self.stop = stop
        self.link = Link(request["at"], request.get("timeout", 5))
        self.outcomes: Counter[str] = Counter()
        self.pods: Counter[str] = Counter()
        self.first_failure: float | None = None
        self.last_failure: float | None = None

    def run(self) -> None:
        path = self.request.get("path", "/")
        while not self.stop.is_set():
            began = time.time()
            try:
                answer, body = self.link.ask("GET", path, {}, None)
                outcome = "ok" if answer.status < 400 else f"status {answer.status}"
                if outcome == "ok" and self.request.get("pods", True):
                    self.pods[json.loads(body)["pod"]] += 1
            except (OSError, http.client.HTTPException) as error:
                outcome = kind(error)
                self.link.drop()
                # An instant refusal must not turn into a busy loop on two cores.
                self.stop.wait(0.05)
            self.outcomes[outcome] += 1
            if outcome != "ok":
                self.first_failure = self.first_failure or began
                self.last_failure = time.time()
            self.stop.wait(self.request.get("pause", 0.02))


def load(request: dict[str, Any]) -> dict[str, Any]:
    """``clients`` that each keep a connection, for ``seconds`` or until another line on stdin."""
    stop = threading.Event()
    askers = [Asker(request, stop) for _ in range(request.get("clients", 4))]
    for asker in askers:
        asker.start()

    def listen() -> None:
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=listen, daemon=True).start()
    stop.wait(request["seconds"])
    stop.set()
    for asker in askers:
        asker.join()
    outcomes = sum((asker.outcomes for asker in askers), Counter())
    failures = [a.first_failure for a in askers if a.first_failure is not None]
    last = [a.last_failure for a in askers if a.last_failure is not None]
    return {
        "outcomes": outcomes,
        "connections": [asker.link.made for asker in askers],
        "serials": sorted(set().union(*(asker.link.serials for asker in askers))),
        "pods": sum((asker.pods for asker in askers), Counter()),
        "first_failure": min(failures, default=None),
        "last_failure": max(last, default=None),
    }


def kind(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"tls: {error.reason}"
    if isinstance(error, TimeoutError):
        return "client timeout"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionError | http.client.HTTPException):
        return f"connection lost: {type(error).__name__}"
    return f"error: {error}"


ACTIONS = {action.__name__: action for action in (get, gets, load, resumed)}

if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    json.dump(ACTIONS[asked["do"]](asked), sys.stdout)
