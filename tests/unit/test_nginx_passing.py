"""What Debian's nginx passes on, asked for real: the TLS sidecar's and the splitter's configuration."""

import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest

from dds_patterns.single_node.tls_settings import CURVES
from tests import ports
from tests.unit.support import listening
from tests.unit.support.wire import raw_server
from tests.unit.test_request_splitter import configuration as splitter_configuration
from tests.unit.test_request_splitter import made as splitter_made
from tests.unit.test_tls_sidecar import configuration as tls_configuration
from tests.unit.test_tls_sidecar import made as tls_made

NGINX = shutil.which("nginx")
OPENSSL = shutil.which("openssl")
MODULE = pathlib.Path("/usr/share/nginx/modules-available/mod-stream.conf")
pytestmark = pytest.mark.skipif(
    NGINX is None or OPENSSL is None, reason="nginx or openssl is not installed"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n"


def running(
    text: str, folder: pathlib.Path, port: int
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Nginx with this configuration, once it listens at ``port``."""
    file = folder / "nginx.conf"
    file.write_text(text.replace("/tmp/", f"{folder}/"))
    command = [str(NGINX), "-e", "stderr", "-c", str(file), "-g", "daemon off; user root;"]
    return listening.running(command, port)


ON_P256 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


def certificate(folder: pathlib.Path, file: str, name: str, kind: Sequence[str] = ON_P256) -> None:
    """Make a certificate that is its own authority, and its key."""
    subprocess.run(
        [
            *(str(OPENSSL), "req", "-x509", *kind),
            *("-nodes", "-subj", f"/CN={name}", "-days", "2"),
            *("-keyout", str(folder / f"{file}.key"), "-out", str(folder / f"{file}.crt")),
        ],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A certificate that is its own authority, in a folder."""
    folder = tmp_path_factory.mktemp("pair")
    certificate(folder, "tls", "test")
    shutil.copy(folder / "tls.crt", folder / "ca.crt")
    return folder


def sidecar(
    pair: pathlib.Path, folder: pathlib.Path, upstream: int, **args: Any
) -> tuple[str, int]:
    """The sidecar's configuration in front of ``upstream``, and its port."""
    port = ports.free_port()
    status = ports.free_port()
    graph = tls_made(port=port, status_port=status, **args)[1]
    text = tls_configuration(graph)["nginx.conf"]
    shutil.copytree(pair, folder / "tls" / "current")
    return text.replace("127.0.0.1:8080", f"127.0.0.1:{upstream}"), port


def over_tls(pair: pathlib.Path, port: int) -> Callable[[bytes], bytes]:
    """Sends a request over a new connection, with the pair as the client's certificate."""
    context = ssl.create_default_context(cafile=str(pair / "ca.crt"))
    context.check_hostname = False
    context.load_cert_chain(pair / "tls.crt", pair / "tls.key")

    def send(request: bytes) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), 60) as plain,
            context.wrap_socket(plain) as secured,
        ):
            secured.sendall(request)
            return read(secured)

    return send


def read(connection: socket.socket) -> bytes:
    found = b""
    while piece := connection.recv(65536):
        found += piece
    return found


def get(target: str = "/", *headers: str) -> bytes:
    lines = [f"GET {target} HTTP/1.1", "Host: legacy", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode()


def test_the_sidecar_passes_on_what_a_legacy_server_says_and_hears(
    pair: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    cookies = b"".join(b"Set-Cookie: c%d=%s\r\n" % (n, b"x" * 1000) for n in range(20))
    extra = b"Server: legacy/1\r\nX-Accel-Redirect: /other\r\nLocation: http://application/a\r\n"
    with raw_server(OK + extra + cookies + b"\r\nhi") as server:
        text, port = sidecar(pair, tmp_path, server.port)
        with running(text, tmp_path, port):
            target = "/a%2Fb//c%3Fd/%2e?q=what?&r=%20"
            send = over_tls(pair, port)
            answer = send(
                get(
                    target,
                    "Cookie: " + "y" * 20_000,
                    "my_header: 1",
                    "my.header: 2",
                    "X_Real_IP: 203.0.113.9",
                    "X-Client_Verify: SUCCESS",
                    "X_Forwarded-For: 203.0.113.9",
                )
            )
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"Set-Cookie") == 20
    assert extra.split(b"\r\n")[0] in answer
    assert b"Location: http://application/a\r\n" in answer
    assert b"X-Accel-Redirect: /other\r\n" in answer
    (asked,) = server.requests
    assert asked.startswith(f"GET {target} HTTP/1.1\r\n".encode())
    assert b"y" * 20_000 in asked
    assert b"my_header: 1\r\n" in asked
    assert b"my.header: 2\r\n" in asked
    assert b"203.0.113.9" not in asked, "to a server after CGI's example it is X-Real-IP"
    assert b"SUCCESS" not in asked


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("client_certificates", ["required", "optional", "none"])
def test_no_session_outlives_the_authority_of_its_client(
    pair: pathlib.Path, tmp_path: pathlib.Path, client_certificates: str, version: ssl.TLSVersion
) -> None:
    guarded: dict[str, Any] = {"client_certificates": client_certificates}
    if client_certificates != "none":
        guarded["client_authority"] = (pair / "ca.crt").read_text()
    with raw_server(OK + b"\r\nhi") as server:
        text, port = sidecar(pair, tmp_path, server.port, **guarded)
        context = ssl.create_default_context(cafile=str(pair / "ca.crt"))
        context.check_hostname = False
        context.maximum_version = version
        context.load_cert_chain(pair / "tls.crt", pair / "tls.key")
        with running(text, tmp_path, port):
            session, reused = None, []
            for _ in range(2):
                with (
                    socket.create_connection(("127.0.0.1", port), 60) as plain,
                    context.wrap_socket(plain, session=session) as secured,
                ):
                    secured.sendall(get())
                    assert read(secured).startswith(b"HTTP/1.1 200")
                    session = secured.session
                    reused.append(secured.session_reused)
    assert reused == [False, client_certificates == "none"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_keys_are_exchanged_with_the_curves_of_the_profile_only(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: pathlib.Path, version: ssl.TLSVersion
) -> None:
    # In TLS 1.2 a client must know the curve of the certificate too; RSA has none.
    pair = tmp_path_factory.mktemp("rsa")
    certificate(pair, "tls", "test", ("-newkey", "rsa:2048"))

    def accepted(curve: str) -> bool:
        context = ssl.create_default_context(cafile=str(pair / "tls.crt"))
        context.check_hostname = False
        context.minimum_version = context.maximum_version = version
        context.set_ecdh_curve(curve)
        try:
            with socket.create_connection(("127.0.0.1", port), 60) as plain:
                context.wrap_socket(plain).close()
        except ssl.SSLError:
            return False
        return True

    with raw_server(OK + b"\r\nhi") as server:
        text, port = sidecar(pair, tmp_path, server.port)
        with running(text, tmp_path, port):
            found = {curve for curve in (*CURVES, "X448", "secp521r1") if accepted(curve)}
    assert found == set(CURVES)


@pytest.mark.skipif(not MODULE.exists(), reason="nginx's stream module is not installed")
def test_the_splitter_passes_on_and_a_port_is_no_user(tmp_path: pathlib.Path) -> None:
    port, status = ports.free_port(), ports.free_port()
    cookies = b"Set-Cookie: c=%s\r\n" % (b"x" * 20_000)
    with raw_server(OK + cookies + b"\r\nhi") as server:
        graph = splitter_made(
            listen_port=port, status_port=status, percent=50, sticky={"by": "address"}
        )[1]
        text = splitter_configuration(graph).replace(
            "/etc/nginx/modules-enabled/*-stream.conf", str(MODULE)
        )
        text = re.sub(r"set \$address .*;", f"set $address 127.0.0.1:{server.port};", text)
        (tmp_path / "resolver.conf").write_text(
            'resolver 127.0.0.1;\nmap "" $namespace { default x; }\n'
            'map "" $cluster_domain { default x; }\n'
        )

        def arm(address: str) -> str:
            with socket.create_connection(("127.0.0.1", port), 60) as connection:
                connection.sendall(
                    get("/a%2Fb//c?d", f"X-Forwarded-For: {address}", "a_b: 1", "a.b: 2")
                )
                answer = read(connection)
            assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
            found = re.search(rb"X-Arm: (\w+)", answer)
            assert found
            return found[1].decode()

        with running(text, tmp_path, port):
            for user in range(8):
                four, six = f"203.0.113.{user}", f"2001:db8::{user}"
                spelt = [f"{four}:{n}" for n in range(4000, 4004)]
                assert {arm(a) for a in [*spelt, f"{spelt[0]}, 10.0.0.1"]} == {arm(four)}
                spelt = [f"[{six}]:{n}" for n in range(4000, 4004)]
                assert {arm(a) for a in [*spelt, f"[{six}]"]} == {arm(f"{six}, 10.0.0.1")}
    assert all(r.startswith(b"GET /a%2Fb//c?d HTTP/1.1\r\n") for r in server.requests)
    assert all(b"a_b: 1\r\n" in r and b"a.b: 2\r\n" in r for r in server.requests)


def test_a_connection_that_is_kept_ends_when_the_authority_changes(
    pair: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """The sidecar's script tells nginx so (SIGHUP) when ca.crt is another."""
    guarded = {"client_certificates": "required", "client_authority": (pair / "ca.crt").read_text()}
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    with raw_server(answer) as server:
        text, port = sidecar(pair, tmp_path, server.port, **guarded)
        context = ssl.create_default_context(cafile=str(pair / "ca.crt"))
        context.check_hostname = False
        context.load_cert_chain(pair / "tls.crt", pair / "tls.key")
        with (
            running(text, tmp_path, port) as process,
            socket.create_connection(("127.0.0.1", port), 60) as plain,
            context.wrap_socket(plain) as kept,
        ):
            kept.sendall(b"GET / HTTP/1.1\r\nHost: legacy\r\n\r\n")
            seen = b""
            while not seen.endswith(b"hi"):
                seen += kept.recv(65536)
            certificate(tmp_path / "tls" / "current", "ca", "another")
            process.send_signal(signal.SIGHUP)
            assert read(kept) == b"", "it is closed"
            answered = over_tls(pair, port)(get())
    assert answered.startswith(b"HTTP/1.1 400"), answered[:100]
