"""Keeps the node's nftables table in step with the API, and lets pods start once they are covered."""

import json
import socket
import threading
import time
from pathlib import Path

from toolchain.node.program import background, network_policy
from toolchain.node.program.api import Api, Copy
from toolchain.node.program.config import POD_RANGE
from toolchain.node.program.host import feed
from toolchain.node.program.supervisor import say
from toolchain.node.program.waiting import until

SOCKET = Path("/run/node/policy.sock")
# Changes come in bursts; collecting them for a moment costs less than it delays.
SETTLE_SECONDS = 0.05
COVER_SECONDS = 10.0

Key = tuple[str, str]


class Policies:
    """The loop that enforces NetworkPolicies for the pods of one node, in threads of its own."""

    def __init__(self, api: Api, node: str, stop: threading.Event) -> None:
        self._node = node
        self._stop = stop
        self._changed = threading.Event()
        # Guards what follows; notified after each application.
        self._applied = threading.Condition()
        self._addresses: dict[Key, tuple[str, str]] = {}
        self._covered: dict[Key, str] = {}
        self._text = ""
        self._pods = Copy(api, "/api/v1/pods", stop, self._changed.set)
        self._namespaces = Copy(api, "/api/v1/namespaces", stop, self._changed.set)
        self._policies = Copy(
            api, "/apis/networking.k8s.io/v1/networkpolicies", stop, self._changed.set
        )
        SOCKET.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(SOCKET))
        SOCKET.chmod(0o600)
        self._server.listen(128)
        background.start("network policies", stop, self._run)
        background.start("requests of the CNI plugin", stop, self._serve)

    def _run(self) -> None:
        copies = (self._pods, self._namespaces, self._policies)
        for copy in copies:
            until("the lists of the API", copy.complete.is_set, self._stop, timeout=float("inf"))
        say("network policies: enforced")
        while not self._stop.is_set():
            self._changed.clear()
            self._apply()
            self._changed.wait()
            self._stop.wait(SETTLE_SECONDS)

    def _apply(self) -> None:
        objects = self._pods.objects()
        present = {(o["metadata"]["namespace"], o["metadata"]["name"]) for o in objects}
        with self._applied:
            known = {key: ip for key, (_, ip) in self._addresses.items()}
        every_pod = network_policy.pods(objects, known)
        text = network_policy.rules(
            every_pod,
            self._namespaces.objects(),
            self._policies.objects(),
            self._node,
            POD_RANGE,
        )
        if text != self._text:
            feed(text, "nft", "-f", "-")
            self._text = text
        with self._applied:
            self._covered = {key: ip for key, ip in known.items() if key in present}
            self._applied.notify_all()

    def _serve(self) -> None:
        while not self._stop.is_set():
            stream, _ = self._server.accept()
            threading.Thread(target=self._answer, args=(stream,), daemon=True).start()

    def _answer(self, stream: socket.socket) -> None:
        with stream:
            stream.settimeout(COVER_SECONDS)
            try:
                asked = json.loads(stream.makefile().readline())
                stream.sendall(self._asked(asked).encode() + b"\n")
            except (OSError, ValueError, KeyError) as error:
                say(f"network policies: a request of the CNI plugin failed: {error!r}")

    def _asked(self, asked: dict[str, str]) -> str:
        key = (asked["namespace"], asked["name"])
        if asked["command"] == "DEL":
            with self._applied:
                if self._addresses.get(key, ("", ""))[0] == asked["sandbox"]:
                    del self._addresses[key]
            self._changed.set()
            return "forgotten"
        with self._applied:
            for other, (_, ip) in list(self._addresses.items()):
                if ip == asked["ip"]:
                    del self._addresses[other]
            self._addresses[key] = (asked["sandbox"], asked["ip"])
        self._changed.set()
        end = time.monotonic() + COVER_SECONDS
        with self._applied:
            while self._covered.get(key) != asked["ip"]:
                if not self._applied.wait(end - time.monotonic()):
                    return f"pod {'/'.join(key)} is not covered by the node's policies yet"
        return "covered"
