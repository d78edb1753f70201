"""Updates the node's nftables table from the API, and lets pods start once they are covered."""

import json
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from toolchain.node.program import background, network_policy
from toolchain.node.program.api import Api, Informer, Object
from toolchain.node.program.config import POD_RANGE
from toolchain.node.program.host import feed
from toolchain.node.program.network import REPAIR_SECONDS
from toolchain.node.program.supervisor import say
from toolchain.node.program.waiting import until

SOCKET = Path("/run/node/policy.sock")
MIRROR = "kubernetes.io/config.mirror"
# Changes come in bursts; those within this time are applied together.
SETTLE_SECONDS = 0.05
COVER_SECONDS = 10.0
MOST_CHARACTERS = 65536

Key = tuple[str, str]


@dataclass(frozen=True)
class _Address:
    """A pod's address from the CNI plugin; `uid` distinguishes pods with the same name."""

    sandbox: str
    ip: str
    uid: str


def _uids(pod: Object) -> tuple[str, ...]:
    """A pod's UIDs: a static pod has another UID in the API, and the kubelet's own in an annotation."""
    metadata = pod["metadata"]
    return metadata["uid"], (metadata.get("annotations") or {}).get(MIRROR, metadata["uid"])


class Policies:
    """Enforces NetworkPolicies for the pods of one node, in threads of its own."""

    def __init__(self, api: Api, node: str, stop: threading.Event) -> None:
        self._node = node
        self._stop = stop
        self._changed = threading.Event()
        # Guards the fields below; notified after each update of the table.
        self._applied = threading.Condition()
        self._addresses: dict[Key, _Address] = {}
        self._covered: dict[Key, _Address] = {}
        self._text = ""
        self._pods = Informer(api, "/api/v1/pods", stop, self._changed.set)
        self._namespaces = Informer(api, "/api/v1/namespaces", stop, self._changed.set)
        self._policies = Informer(
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
        informers = (self._pods, self._namespaces, self._policies)
        for informer in informers:
            until(
                "the lists of the API", informer.complete.is_set, self._stop, timeout=float("inf")
            )
        self._apply()
        say("network policies: enforced")
        while not self._stop.is_set():
            if not self._changed.wait(REPAIR_SECONDS):
                # Another program may have deleted the table, and replacing it is cheap.
                self._text = ""
            self._stop.wait(SETTLE_SECONDS)
            self._changed.clear()
            self._apply()

    def _apply(self) -> None:
        objects = self._pods.objects()
        present = {(o["metadata"]["namespace"], o["metadata"]["name"]): _uids(o) for o in objects}
        with self._applied:
            known = dict(self._addresses)
        every_pod = network_policy.pods(objects, {key: one.ip for key, one in known.items()})
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
            # A former pod with the same name may have other labels: the pod's own must have been seen.
            self._covered = {
                key: one for key, one in known.items() if one.uid in present.get(key, ())
            }
            self._applied.notify_all()

    def _serve(self) -> None:
        while not self._stop.is_set():
            stream, _ = self._server.accept()
            threading.Thread(target=self._answer, args=(stream,), daemon=True).start()

    def _answer(self, stream: socket.socket) -> None:
        with stream:
            stream.settimeout(COVER_SECONDS)
            try:
                request = json.loads(stream.makefile().readline(MOST_CHARACTERS))
                stream.sendall(self._handle(request).encode() + b"\n")
            except Exception as error:  # noqa: BLE001 the pod does not start, and the kubelet retries
                say(f"network policies: a request of the CNI plugin failed: {error!r}")

    def _handle(self, request: dict[str, str]) -> str:
        key = (request["namespace"], request["name"])
        if request["command"] == "DEL":
            with self._applied:
                if key in self._addresses and self._addresses[key].sandbox == request["sandbox"]:
                    del self._addresses[key]
            self._changed.set()
            return "forgotten"
        wanted = _Address(request["sandbox"], request["ip"], request["uid"])
        with self._applied:
            for other, one in list(self._addresses.items()):
                if one.ip == wanted.ip:
                    del self._addresses[other]
            self._addresses[key] = wanted
        self._changed.set()
        end = time.monotonic() + COVER_SECONDS
        with self._applied:
            while self._covered.get(key) != wanted:
                if not self._applied.wait(end - time.monotonic()):
                    return f"pod {'/'.join(key)} is not covered by the node's policies yet"
        return "covered"
