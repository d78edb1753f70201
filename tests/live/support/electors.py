"""Electors as processes of this machine, on an etcd of their own or on the cluster's Leases."""

import base64
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from elector.belief import monotonic
from elector.etcd import Etcd
from elector.etcd_lock import EtcdLock
from elector.lease_lock import LeaseLock
from elector.lock import Lock
from elector.transport import Transport
from kubernetes import client

from tests.live.support.cluster import ROOT, Cluster
from tests.live.support.kube import Kube
from tests.live.support.waiting import eventually, patience
from tests.ports import free_ports
from toolchain import builds

PASSWORD = "not-much-of-a-secret"
_ELECTOR = ROOT / "images" / "elector"
# Of etcd's members, longer than etcd's second: a busy machine must not make one a candidate.
ELECTION_SECONDS = 2


class LocalEtcd:
    """Three members on the loopback, of the version that the project builds, with users."""

    def __init__(self, folder: Path, members: int = 3) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._program = builds.ensure("etcd") / "etcd"
        ports = free_ports(2 * members)
        self._client_ports, self._peer_ports = ports[:members], ports[members:]
        self.endpoints = [f"http://127.0.0.1:{port}" for port in self._client_ports]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.transports: list[Transport] = []

    def start(self) -> None:
        self.processes = [self._member(number) for number in range(len(self.endpoints))]
        self.wait()

    def wait(self) -> None:
        """Until every member serves."""

        def answers() -> bool:
            return all(_healthy(port) for port in self._client_ports)

        eventually(answers, 30, f"etcd at {self.endpoints} is healthy")

    def _member(self, number: int) -> subprocess.Popen[bytes]:
        urls = [f"http://127.0.0.1:{port}" for port in self._peer_ports]
        cluster = ",".join(f"m{i}={url}" for i, url in enumerate(urls))
        log = (self.folder / f"m{number}.log").open("ab")
        with log:
            return subprocess.Popen(
                [
                    str(self._program),
                    *("--name", f"m{number}", "--data-dir", str(self.folder / f"m{number}")),
                    *("--listen-client-urls", self.endpoints[number]),
                    *("--advertise-client-urls", self.endpoints[number]),
                    *("--listen-peer-urls", urls[number]),
                    *("--initial-advertise-peer-urls", urls[number]),
                    *("--initial-cluster", cluster, "--initial-cluster-token", self.folder.name),
                    *("--election-timeout", str(ELECTION_SECONDS * 1000)),
                    *("--heartbeat-interval", str(ELECTION_SECONDS * 100)),
                    # Simple tokens: a restarted member does not know them any more.
                    *("--auth-token", "simple", "--log-level", "warn"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def restart(self, number: int) -> None:
        """SIGKILL, and start again with the same data."""
        self.kill(number)
        self.processes[number] = self._member(number)

    def kill(self, number: int) -> None:
        self.processes[number].kill()
        self.processes[number].wait()

    def stop(self) -> None:
        for transport in self.transports:
            transport.close()
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    def leader(self) -> int:
        """The member that leads."""
        for number, endpoint in enumerate(self.endpoints):
            status = self.root_etcd([endpoint]).call("maintenance/status", {})
            if status["leader"] == status["header"]["member_id"]:
                return number
        raise AssertionError("no member leads")

    def enable_users(self) -> None:
        """A root user, and a user that may write below ``elections/`` only."""
        self.transports.append(Transport(self.endpoints, attempt_seconds=5))
        etcd = Etcd(self.transports[-1])
        for name in ("root", "elections"):
            etcd.call("auth/user/add", {"name": name, "password": PASSWORD})
        etcd.call("auth/role/add", {"name": "root"})
        etcd.call("auth/role/add", {"name": "elections"})
        first, last = (base64.b64encode(key).decode() for key in (b"elections/", b"elections0"))
        etcd.call(
            "auth/role/grant",
            {
                "name": "elections",
                "perm": {"permType": "READWRITE", "key": first, "range_end": last},
            },
        )
        etcd.call("auth/user/grant", {"user": "root", "role": "root"})
        etcd.call("auth/user/grant", {"user": "elections", "role": "elections"})
        etcd.call("auth/enable", {})

    @property
    def password_file(self) -> Path:
        file = self.folder / "password"
        file.write_text(PASSWORD)
        return file

    def root_etcd(self, endpoints: Sequence[str] | None = None) -> Etcd:
        self.transports.append(Transport(endpoints or self.endpoints, attempt_seconds=5))
        return Etcd(self.transports[-1], "root", self.password_file)


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return bool(json.load(connection.getresponse())["health"] == "true")
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Store:
    """Somewhere to hold elections: one interface for both backends."""

    name: str
    transports: list[Transport]

    def close(self) -> None:
        for transport in self.transports:
            transport.close()

    def transport(self, endpoints: Sequence[str], verify: str | bool = True) -> Transport:
        self.transports.append(Transport(endpoints, verify, attempt_seconds=5))
        return self.transports[-1]

    def election(self) -> str:
        """A new key."""
        raise NotImplementedError

    def flags(self, election: str) -> list[str]:
        """The elector's flags for it."""
        raise NotImplementedError

    def lock(self, election: str, owner: str, ttl: float, margin: float) -> Lock:
        """The library's lock on it."""
        raise NotImplementedError


@dataclass
class EtcdStore(Store):
    etcd: LocalEtcd
    name: str = "etcd"
    transports: list[Transport] = field(default_factory=list)

    def election(self) -> str:
        return f"elections/{secrets.token_hex(4)}"

    def flags(self, election: str) -> list[str]:
        endpoints = [word for url in self.etcd.endpoints for word in ("--endpoint", url)]
        return [
            *("--backend", "etcd", *endpoints, "--key", election),
            *("--username", "elections", "--password-file", str(self.etcd.password_file)),
        ]

    def client(self, username: str = "elections") -> Etcd:
        return Etcd(self.transport(self.etcd.endpoints), username, self.etcd.password_file)

    def lock(self, election: str, owner: str, ttl: float, margin: float) -> Lock:
        return EtcdLock(self.client(), election, owner, ttl, margin)


@dataclass
class LeaseStore(Store):
    kube: Kube
    namespace: str
    endpoint: str
    ca_file: Path
    token_file: Path
    name: str = "lease"
    transports: list[Transport] = field(default_factory=list)

    def election(self) -> str:
        name = f"e-{secrets.token_hex(4)}"
        self.kube.apply(
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": self.namespace},
            }
        )
        return name

    def flags(self, election: str) -> list[str]:
        return [
            *("--backend", "lease", "--endpoint", self.endpoint, "--ca-file", str(self.ca_file)),
            *("--token-file", str(self.token_file), "--namespace", self.namespace),
            *("--key", election),
        ]

    def lock(self, election: str, owner: str, ttl: float, margin: float) -> Lock:
        transport = self.transport([self.endpoint], str(self.ca_file))
        return LeaseLock(
            transport, self.namespace, election, owner, ttl, margin, token_file=self.token_file
        )


@contextmanager
def lease_store(cluster: Cluster, kube: Kube, folder: Path) -> Iterator[LeaseStore]:
    """A namespace, and an account that may do to Leases what the component's role allows."""
    server = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    ca_file, token_file = folder / "ca.crt", folder / "token"
    ca_file.write_bytes(base64.b64decode(server["certificate-authority-data"]))
    with kube.namespace("electors") as namespace:
        metadata = {"name": "elector", "namespace": namespace}
        kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        rbac = "rbac.authorization.k8s.io"
        kube.apply(
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "Role",
                "metadata": metadata,
                "rules": [
                    {
                        "apiGroups": ["coordination.k8s.io"],
                        "resources": ["leases"],
                        "verbs": ["get", "watch", "update"],
                    }
                ],
            }
        )
        kube.apply(
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "elector"},
                "subjects": [{"kind": "ServiceAccount", "name": "elector"}],
            }
        )
        asked = client.AuthenticationV1TokenRequest(
            spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600)
        )
        answer = kube.core.create_namespaced_service_account_token("elector", namespace, asked)
        token_file.write_text(str(answer.status.token))
        store = LeaseStore(kube, namespace, server["server"], ca_file, token_file)
        try:
            yield store
        finally:
            store.close()


class Ended(OSError):
    """The process to which a request was meant has ended."""


class Elector:
    """One companion process."""

    def __init__(
        self, store: Store, election: str, identity: str, folder: Path, *more: str
    ) -> None:
        self.identity = identity
        self.store = store
        self.election = election
        self._log = folder / f"{identity}.log"
        self._more = more
        self.port, self.metrics_port = free_ports(2)
        self._events: list[Events] = []
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "elector", *self.store.flags(self.election)),
                    *("--election", "duty", "--identity", self.identity),
                    *("--port", str(self.port), "--metrics-port", str(self.metrics_port)),
                    *self._more,
                ],
                cwd=self._log.parent,
                env={**os.environ, "PYTHONPATH": str(_ELECTOR), "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def ask(self, method: str = "GET", path: str = "/", port: int = 0) -> tuple[int, Any]:
        """Status and content.

        :raises Ended: if the process has ended
        :raises OSError: if it does not respond
        """
        self._runs()
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            text = answer.read().decode()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()
        is_json = "json" in (answer.getheader("Content-Type") or "")
        return answer.status, json.loads(text) if is_json else text

    def standing(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask()[1]
        return found

    def post(self, path: str) -> dict[str, Any]:
        status, content = self.ask("POST", path)
        assert status == 200
        answer: dict[str, Any] = content
        return answer

    def metrics(self) -> dict[str, float]:
        """Values by name, without their labels."""
        text = self.ask(path="/metrics", port=self.metrics_port)[1]
        values = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name.partition("{")[0]] = float(value)
        return values

    def signal(self, number: signal.Signals) -> float:
        """Send a signal; the moment before, on the monotonic clock."""
        moment = monotonic()
        self.process.send_signal(number)
        return moment

    def restart(self) -> None:
        """Start again after it has ended."""
        for events in self._events:
            events.close()
        self._events.clear()
        self.process.wait(10)
        self.process = self._start()

    def events(self) -> "Events":
        """Its events from now on; closed with the elector."""
        self._events.append(Events(self.port))
        return self._events[-1]

    def serves(self) -> bool:
        """Whether it is ready.

        :raises Ended: if the process has ended
        """
        self._runs()
        try:
            return self.ask(path="/readyz", port=self.metrics_port)[0] == 200
        except OSError:
            return False

    def _runs(self) -> None:
        code = self.process.poll()
        if code is not None:
            raise Ended(f"{self.identity} has ended with {code}:\n{self.log()[-1500:]}")

    def end(self) -> None:
        for events in self._events:
            events.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return self._log.read_text()


class Events:
    """The lines of ``GET /events``, each with the time at which it arrived."""

    def __init__(self, port: int) -> None:
        self.lines: list[tuple[float, dict[str, Any]]] = []
        self._changed = threading.Condition()
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.request("GET", "/events")
        self._answer = self._connection.getresponse()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while line := self._answer.readline():
                if line.strip():
                    with self._changed:
                        self.lines.append((monotonic(), json.loads(line)))
                        self._changed.notify_all()
        except (OSError, ValueError, http.client.HTTPException, AttributeError):
            return

    def close(self) -> None:
        """Stop listening."""
        if self._connection.sock is not None:
            with suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._answer.close()
        self._connection.close()

    def first(self, timeout: float, **wanted: Any) -> tuple[float, dict[str, Any]]:
        """The first line that has all of the wanted values."""

        def found() -> tuple[float, dict[str, Any]] | None:
            for at, line in self.lines:
                if all(line[key] == value for key, value in wanted.items()):
                    return at, line
            return None

        with self._changed:
            result = self._changed.wait_for(found, patience(timeout))
        seconds = patience(timeout)
        assert result is not None, f"no line with {wanted} within {seconds:g} s: {self.lines}"
        return result


@dataclass
class Contest:
    """Some electors that compete for the same election."""

    electors: list[Elector]

    def leader(self, timeout: float = 15, but: Elector | None = None) -> Elector:
        """The leader, as soon as there is one."""

        def leading() -> Elector | None:
            for elector in self.electors:
                if elector is not but and elector.process.poll() is None:
                    try:
                        if elector.standing()["leading"]:
                            return elector
                    except OSError:
                        continue
            return None

        found = eventually(leading, timeout, self.describe, interval=0.02)
        assert found is not None
        return found

    def renew(self) -> None:
        """Start the electors that have ended, and make all of them candidates."""
        for elector in self.electors:
            if elector.process.poll() is not None:
                elector.restart()
        self.wait()
        for elector in self.electors:
            elector.post("/campaign")
        self.leader(40)

    def wait(self) -> None:
        """Until every elector serves."""
        eventually(lambda: all(e.serves() for e in self.electors), 60, self.describe, 0.05)

    def others(self, leader: Elector) -> list[Elector]:
        return [elector for elector in self.electors if elector is not leader]

    def listen(self, electors: Sequence[Elector]) -> list[tuple[Elector, Events]]:
        """The events of each of them from now on."""
        return [(elector, elector.events()) for elector in electors]

    def successor(
        self, heard: Sequence[tuple[Elector, Events]], since: float, timeout: float
    ) -> tuple[float, Elector, Any]:
        """Seconds from ``since`` until one of them says that it leads, that one, and its status.

        :param heard: of :meth:`listen`, started before the former leadership ends
        """

        def leading() -> tuple[float, Elector, Any] | None:
            for elector, events in heard:
                for at, line in list(events.lines):
                    if line["leading"] and at >= since:
                        return at - since, elector, line
            return None

        found = eventually(leading, timeout, lambda: f"a successor\n{self.describe()}", 0.002)
        assert found is not None
        return found

    def describe(self) -> str:
        return "\n".join(f"--- {e.identity}\n{e.log()[-1500:]}" for e in self.electors)


@contextmanager
def contest(
    store: Store,
    folder: Path,
    *,
    count: int = 2,
    ttl: float = 2,
    renew: float | None = None,
    margin: float | None = None,
    more: Mapping[int, Sequence[str]] | None = None,
) -> Iterator[Contest]:
    """Electors of one election, ended with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    election = store.election()
    times = [
        *("--ttl", f"{ttl:g}", "--renew", f"{ttl / 3 if renew is None else renew:g}"),
        *("--margin", f"{ttl / 10 if margin is None else margin:g}"),
    ]
    electors: list[Elector] = []
    try:
        for number in range(count):
            extra = (more or {}).get(number, ())
            electors.append(Elector(store, election, f"candidate-{number}", folder, *times, *extra))
        running = Contest(electors)
        running.wait()
        yield running
    finally:
        for elector in electors:
            elector.end()
        shutil.rmtree(folder, ignore_errors=True)
