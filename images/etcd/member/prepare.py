"""Before etcd starts: complete its configuration; with an empty volume, join the cluster."""

import datetime
import http.client
import http.server
import json
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from member import settings as at
from member import snapshots
from member.decision import Peer, Step, initial_cluster, mine, step
from member.gateway import Gateway, GatewayError, UnreachableError, pieces
from member.say import say
from member.settings import Restore, Settings

_POLL_SECONDS = 0.3
_TIMEOUT_SECONDS = 3
_ANSWER_BYTES = 2**20
# After a restore, revisions continue far above all that clients may have seen after the snapshot, so
# that fencing tokens never decrease.
_BUMP = 1_000_000_000


def main() -> None:
    """Return when etcd may start."""
    settings = Settings.load(at.SETTINGS.read_text())
    me = socket.gethostname()
    if (at.DATA / "member").exists():
        say("the volume has data: etcd continues with it")
        _write(settings, me, "existing", _static(settings))
        return
    Preparation(settings, me).run()


class Preparation:
    """One member with an empty volume."""

    def __init__(self, settings: Settings, me: str) -> None:
        self._settings = settings
        self._me = me
        self._url = settings.peer_url(me)
        self._decided = False
        self._tls = peer_context(ssl.Purpose.SERVER_AUTH)
        self._gateway = Gateway(
            [settings.client_url(member) for member in settings.others(me)],
            at.CLIENT_CA,
            at.root_passwords,
        )

    def run(self) -> None:
        """Choose the steps, and prepare the volume and the configuration for the start of etcd."""
        with self._serving_state():
            while not self._attempt():
                time.sleep(_POLL_SECONDS)
            self._decided = True
            # Members that do not know yet that all are empty must still get a response.
            while not all(peer.knows for peer in self._survey()):
                say("waiting until the other members know it too")
                time.sleep(_POLL_SECONDS)

    def _attempt(self) -> bool:
        peers = self._survey()
        todo = step(self._url, peers)
        if todo is Step.FOUND:
            return self._found()
        try:
            if todo is Step.ENTER:
                return self._enter(peers)
            if todo is Step.REPLACE:
                return self._replace()
        except (UnreachableError, GatewayError) as error:
            say(f"waiting for a quorum: {error}")
            return False
        unknown = [peer.name for peer in peers if not peer.empty]
        say(f"the volume is empty; waiting for a response of {', '.join(unknown)}")
        return False

    def _found(self) -> bool:
        restore = self._settings.restore
        if restore is not None:
            say(f"all members are empty: restoring {restore.file}")
            self._restore(restore)
            return True
        if datetime.datetime.now(datetime.UTC) > self._settings.found_until:
            say(
                "every member's volume is empty, but this cluster was created long ago: its data is "
                "lost. No new cluster is formed automatically. Restore a snapshot (argument "
                "restore), or replace the component for an empty cluster"
            )
            return False
        say("all members are empty: forming a new cluster")
        _write(self._settings, self._me, "new", _static(self._settings))
        return True

    def _enter(self, peers: Sequence[Peer]) -> bool:
        try:
            members = self._listed()
        except UnreachableError:
            known = next(peer.members for peer in peers if peer.members is not None)
            if not (mine(known, self._url) or {}).get("name"):
                raise
            # A new cluster, which may need this member for its first quorum.
            return self._found()
        entry = mine(members, self._url)
        if entry is None or entry.get("clientURLs"):
            return False
        say("this member is listed and has never run: starting")
        _write(self._settings, self._me, "existing", initial_cluster(members))
        return True

    def _replace(self) -> bool:
        entry = mine(self._listed(), self._url)
        if entry is not None:
            say(f"the volume of member {entry['ID']} is lost: removing the member")
            self._gateway.call("/v3/cluster/member/remove", {"ID": entry["ID"]})
        say("joining the cluster as a new member")
        added = self._gateway.call("/v3/cluster/member/add", {"peerURLs": [self._url]})
        _write(self._settings, self._me, "existing", initial_cluster(added["members"]))
        return True

    def _listed(self) -> list[dict[str, Any]]:
        answer = self._gateway.call("/v3/cluster/member/list", {"linearizable": True})
        return list(answer["members"])

    def _restore(self, restore: Restore) -> None:
        settings = self._settings
        file, part = at.STORAGE / "restored.db", at.STORAGE / "data.part"
        download(peer_context(ssl.Purpose.SERVER_AUTH), restore.host, restore.file, file)
        try:
            snapshots.check(file)
        except snapshots.DamagedError as error:
            file.unlink()
            raise SystemExit(
                f"the snapshot {restore.file} is damaged: {error}; restore another one "
                "(argument restore)"
            ) from None
        shutil.rmtree(part, ignore_errors=True)
        subprocess.run(
            [
                "etcdutl", "snapshot", "restore", str(file),
                f"--name={self._me}",
                f"--data-dir={part}",
                f"--initial-cluster={_static(settings)}",
                # Members of the former cluster must not join this one.
                f"--initial-cluster-token={settings.token}-{restore.file}",
                f"--initial-advertise-peer-urls={self._url}",
                f"--bump-revision={_BUMP}",
                "--mark-compacted",
            ],
            check=True,
        )  # fmt: skip
        _write(settings, self._me, "existing", _static(settings))
        file.unlink()
        part.rename(at.DATA)

    # the other members

    def _survey(self) -> list[Peer]:
        return [self._query(member) for member in self._settings.others(self._me)]

    def _query(self, member: str) -> Peer:
        # An invalid response counts as none: otherwise it could form a new cluster.
        try:
            status, answer = self._get(member, "/state")
            if status == http.HTTPStatus.OK:
                return _preparing(member, answer)
            status, answer = self._get(member, "/members")
            if status == http.HTTPStatus.OK:
                return _running(member, answer)
        except (OSError, http.client.HTTPException, ValueError, RecursionError):
            pass
        return Peer(member)

    def _get(self, member: str, path: str) -> tuple[int, Any]:
        connection = http.client.HTTPSConnection(
            member, at.PEER_PORT, timeout=_TIMEOUT_SECONDS, context=self._tls
        )
        with closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            text = b"".join(pieces(response, _ANSWER_BYTES))
        return response.status, json.loads(text) if response.status == http.HTTPStatus.OK else None

    @contextmanager
    def _serving_state(self) -> Iterator[None]:
        def answer(path: str) -> bytes | None:
            if path != "/state":
                return None
            return json.dumps({"empty": True, "decided": self._decided}).encode()

        with serving(at.PEER_PORT, answer):
            yield


def _preparing(member: str, answer: Any) -> Peer:
    if not isinstance(answer, dict) or answer.get("empty") is not True:
        say(f"{member} returns an invalid state: {str(answer)[:100]}")
        return Peer(member)
    return Peer(member, empty=True, decided=answer.get("decided") is True)


def _running(member: str, answer: Any) -> Peer:
    if not isinstance(answer, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("peerURLs"), list) for entry in answer
    ):
        say(f"{member} returns an invalid member list: {str(answer)[:100]}")
        return Peer(member)
    return Peer(member, members=answer)


def peer_context(purpose: ssl.Purpose) -> ssl.SSLContext:
    """Mutual TLS between members, with certificates of the peers' CA."""
    context = ssl.create_default_context(purpose, cafile=str(at.PEER / "ca.crt"))
    context.load_cert_chain(at.PEER / "tls.crt", at.PEER / "tls.key")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextmanager
def serving(port: int, answer: Any) -> Iterator[None]:
    """An HTTPS server for peers. ``answer`` returns bytes or a file for a request's path.

    If the server fails, the program exits as by SIGTERM: other members would wait in vain.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            body = answer(self.path)
            if body is None:
                self.send_error(404)
                return
            size = len(body) if isinstance(body, bytes) else body.stat().st_size
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            if isinstance(body, bytes):
                self.wfile.write(body)
            else:
                with body.open("rb") as file:
                    shutil.copyfileobj(file, self.wfile)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            # Also a client without a certificate, which is not logged.
            pass

    server = Server(("0.0.0.0", port), Handler)  # noqa: S104
    # The handshake runs in the connection's own thread.
    server.socket = peer_context(ssl.Purpose.CLIENT_AUTH).wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )

    def serve() -> None:
        try:
            server.serve_forever(poll_interval=0.1)
        except BaseException as error:  # noqa: BLE001 (any end of the server ends the program)
            say(f"the server on port {port} failed: {error!r}")
            # Before the signal: a thread that still writes when the interpreter ends aborts it.
            traceback.print_exc()
            # To the main thread, which may be blocked; a signal to another thread would not wake it.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def download(context: ssl.SSLContext, host: str, name: str, target: Path) -> None:
    """Download a snapshot; retries until it is served."""
    # The server has a certificate of the peers' CA, but its name is not known beforehand.
    context.check_hostname = False
    while True:
        connection = http.client.HTTPSConnection(
            host, at.SNAPSHOT_PORT, timeout=30, context=context
        )
        try:
            with closing(connection):
                connection.request("GET", f"/{name}")
                response = connection.getresponse()
                if response.status != http.HTTPStatus.OK:
                    raise SystemExit(f"{host} has no snapshot {name}: status {response.status}")
                with target.open("wb") as file:
                    for piece in pieces(response):
                        file.write(piece)
        except (OSError, http.client.HTTPException) as error:
            say(f"waiting for snapshot {name} from {host}: {error}")
            time.sleep(_POLL_SECONDS)
        else:
            return


def _static(settings: Settings) -> str:
    return ",".join(f"{name}={settings.peer_url(name)}" for name in settings.members)


def _write(settings: Settings, me: str, state: str, cluster: str) -> None:
    own: Mapping[str, str] = {
        "name": me,
        "initial-advertise-peer-urls": settings.peer_url(me),
        "advertise-client-urls": settings.client_url(me),
        "initial-cluster": cluster,
        "initial-cluster-state": state,
    }
    lines = "".join(f"{key}: {value}\n" for key, value in own.items())
    at.COMPLETE.write_text(f"{at.COMMON.read_text()}\n# This member.\n{lines}")
