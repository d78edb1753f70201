"""A Redis outside the cluster: a container on the nodes' network that speaks TLS only."""

import datetime
import io
import secrets
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from docker.models.containers import Container

from tests.live.support.nodes import Nodes

NAME = "database.example"
_USER = 10001


@dataclass(frozen=True)
class Outside:
    """The running container, and its address and certificate."""

    container: Container
    address: str
    authority: str
    """Certificate of its authority, PEM."""

    def cli(self, *words: str) -> str:
        """The output of redis-cli in the container."""
        done = self.container.exec_run(
            ["redis-cli", "--tls", "--cacert", "/data/ca.pem", "--sni", NAME, *words]
        )
        text: str = done.output.decode().strip()
        assert done.exit_code == 0, text
        return text


@contextmanager
def redis(nodes: Nodes, image: str) -> Iterator[Outside]:
    """The container, removed at the end."""
    authority, certificate, key = _certificates()
    name = f"{nodes.instance}-outside-{secrets.token_hex(3)}"
    container = nodes.docker.containers.create(
        image,
        [
            "redis-server", "--dir", "/data", "--save", "", "--port", "0", "--tls-port", "6379",
            "--tls-cert-file", "/data/tls.crt", "--tls-key-file", "/data/tls.key",
            "--tls-ca-cert-file", "/data/ca.pem", "--tls-auth-clients", "no",
            "--protected-mode", "no",
        ],
        name=name,
        network=nodes.network,
        labels={"dds.test": "outside"},
    )  # fmt: skip
    try:
        files = {"tls.crt": certificate, "tls.key": key, "ca.pem": authority}
        container.put_archive("/data", _archive(files))
        container.start()
        container.reload()
        address = container.attrs["NetworkSettings"]["Networks"][nodes.network]["IPAddress"]
        yield Outside(container, address, authority)
    finally:
        container.remove(force=True, v=True)


def _certificates() -> tuple[str, str, str]:
    now = datetime.datetime.now(datetime.UTC)

    def made(
        name: str, signer: ec.EllipticCurvePrivateKey, issuer: str, key: ec.EllipticCurvePrivateKey
    ) -> str:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(
                x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True
            )
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        )
        signed = builder.sign(signer, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM).decode()

    root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    key = leaf.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    return made("live-tests", root, "live-tests", root), made(NAME, root, "live-tests", leaf), key


def _archive(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o440
            member.uid = member.gid = _USER
            archive.addfile(member, io.BytesIO(content.encode()))
    return buffer.getvalue()
