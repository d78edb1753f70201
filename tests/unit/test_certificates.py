"""Authority and Certificate: what they issue, when they change, what is secret."""

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dds_patterns import Authority, Certificate, Issuer
from dds_patterns.arguments.errors import InputError
from dds_patterns.platform import certificates
from dds_patterns.platform.certificates import AuthorityProvider, CertificateProvider
from tests.unit.support.examples.example import CERTIFICATE
from toolchain.graph import build

ROOT = Path(__file__).parents[2]
KEY = CERTIFICATE.replace("CERTIFICATE", "PRIVATE KEY")


def authority(**props: Any) -> dict[str, Any]:
    inputs = {"common_name": "shop", "validity_days": 3650.0, **props}
    return dict(AuthorityProvider().create(inputs).outs or {})


def inputs_of(issuer: dict[str, Any], **props: Any) -> dict[str, Any]:
    return {
        "authority": issuer["certificate"],
        "authority_key": issuer["key"],
        "common_name": "db",
        "dns_names": ["db.shop.svc", "*.db.shop.svc"],
        "ip_addresses": ["127.0.0.1"],
        "usages": ["server", "client"],
        "validity_days": 90.0,
        "generation": 1.0,
        **props,
    }


def issued(issuer: dict[str, Any], **props: Any) -> dict[str, Any]:
    return dict(CertificateProvider().create(inputs_of(issuer, **props)).outs or {})


def read(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def served(server: dict[str, Any], trusted: str, host: str, tmp_path: Path) -> None:
    """One handshake in memory, as any client makes it; raises if the client refuses."""
    chain, key = tmp_path / "certificate", tmp_path / "key"
    chain.write_text(server["certificate"])
    key.write_text(server["key"])
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(chain, key)
    asking = ssl.create_default_context(cadata=trusted)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = serving.wrap_bio(to_server, to_client, server_side=True)
    here = asking.wrap_bio(to_client, to_server, server_hostname=host)
    for side in (here, there, here, there):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("host", ["db.shop.svc", "db-0.db.shop.svc", "127.0.0.1"])
def test_a_client_that_trusts_the_authority_accepts_its_names(host: str, tmp_path: Path) -> None:
    issuer = authority()
    served(issued(issuer), issuer["certificate"], host, tmp_path)


def test_a_client_refuses_another_name_another_authority_and_another_use(tmp_path: Path) -> None:
    issuer = authority()
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        served(issued(issuer), issuer["certificate"], "other.shop.svc", tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="signature|issuer"):
        served(issued(issuer), authority()["certificate"], "db.shop.svc", tmp_path)
    only_client = issued(issuer, usages=["client"])
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        served(only_client, issuer["certificate"], "db.shop.svc", tmp_path)


def test_what_is_in_a_certificate() -> None:
    issuer = authority()
    outs = issued(issuer, usages=["client"])
    certificate = read(outs["certificate"])
    assert certificate.subject.rfc4514_string() == "CN=db"
    assert certificate.issuer.rfc4514_string() == "CN=shop"
    assert outs["serial"] == f"{certificate.serial_number:x}"
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not basic.ca
    life = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=89) < life < datetime.timedelta(days=91)
    assert "authority_key" not in outs
    # An authority signs certificates of holders, none of other authorities.
    own = read(issuer["certificate"]).extensions.get_extension_for_class(x509.BasicConstraints)
    assert own.critical
    assert (own.value.ca, own.value.path_length) == (True, 0)


def test_a_certificate_never_outlives_its_authority() -> None:
    issuer = authority(validity_days=30.0)
    end = read(issued(issuer, validity_days=90.0)["certificate"]).not_valid_after_utc
    assert end == read(issuer["certificate"]).not_valid_after_utc


KEYS: dict[str, Any] = {
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


def own(key: Any, **more: Any) -> dict[str, str]:
    """A user's own authority, as another program makes it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "own")])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    given = {"ca": True, "identifier": b"its own way", **more}
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), 7, begin, begin + datetime.timedelta(9)
        )
        .add_extension(x509.BasicConstraints(given["ca"], None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(given["identifier"]), critical=False)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return {"certificate": made.public_bytes(Encoding.PEM).decode(), "key": pem(key)}


def pem(key: Any) -> str:
    encoded: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return encoded.decode()


@pytest.mark.parametrize("make", KEYS.values(), ids=KEYS.keys())
def test_a_users_own_authority_issues_certificates_that_clients_accept(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    issuer = own(make())
    served(issued(issuer), issuer["certificate"], "db.shop.svc", tmp_path)


ODD_ISSUERS: dict[str, Any] = {
    "a key of another certificate": (
        lambda: own(KEYS["P-384"]()) | {"key": authority()["key"]},
        "key is <secret>; must be the key of the certificate",
    ),
    "a key that cannot sign": (
        lambda: own(KEYS["P-384"]()) | {"key": pem(x25519.X25519PrivateKey.generate())},
        "key is <secret>; must be a key that can sign certificates, X25519PrivateKey cannot",
    ),
    "no key": (
        lambda: own(KEYS["P-384"]()) | {"key": KEY},
        "key is <secret>; must be a private key that can be read",
    ),
    "a certificate of no authority": (
        lambda: own(KEYS["P-384"](), ca=False),
        "must be the certificate of an authority",
    ),
    "no certificate": (
        lambda: authority() | {"certificate": CERTIFICATE},
        "must be a certificate that can be read",
    ),
}


@pytest.mark.parametrize(("make", "expected"), ODD_ISSUERS.values(), ids=ODD_ISSUERS.keys())
def test_what_cannot_issue_is_refused_in_a_sentence(
    make: Callable[[], dict[str, str]], expected: str
) -> None:
    given = make()
    with pytest.raises(InputError, match=f"Issuer: .*{expected}") as at_once:
        Issuer(given["certificate"], given["key"])
    assert given["key"].splitlines()[1] not in str(at_once.value)
    # Outputs are known only when the certificate is issued.
    with pytest.raises(InputError, match=expected):
        issued(given)


def test_an_issuer_does_not_show_its_key() -> None:
    given = own(KEYS["P-384"]())
    assert given["key"].splitlines()[1] not in repr(Issuer(given["certificate"], given["key"]))


def test_a_plain_key_of_an_issuer_becomes_a_secret() -> None:
    given = own(KEYS["P-384"]())

    def program() -> None:
        issuer = Issuer(given["certificate"], given["key"])
        Certificate("db", {"authority": issuer, "dns_names": ["db.shop.svc"]})

    node = build(program).one("Certificate")
    assert node.secrets == {"authority_key"}
    assert node.inputs["authority"] == given["certificate"]


def test_two_of_the_same_arguments_differ() -> None:
    issuer = authority()
    first, second = issued(issuer), issued(issuer)
    assert first["key"] != second["key"]
    assert first["serial"] != second["serial"]


@pytest.mark.parametrize(
    ("changes", "replaces"),
    [
        ({}, []),
        ({"generation": 2.0}, ["generation"]),
        ({"dns_names": ["db.shop.svc"]}, ["dns_names"]),
        ({"authority": "another"}, ["authority"]),
        # The key alone says nothing: it is that of the same certificate.
        ({"authority_key": "another"}, []),
    ],
)
def test_a_certificate_stays_until_an_argument_changes(
    changes: dict[str, Any], replaces: list[str]
) -> None:
    issuer = authority()
    diff = CertificateProvider().diff("id", issued(issuer), {**inputs_of(issuer), **changes})
    assert diff.replaces == replaces
    assert diff.changes is bool(replaces)
    # What is in use stays until its successor is there.
    assert diff.delete_before_replace is False


def test_an_authority_stays_until_an_argument_changes() -> None:
    olds, news = authority(), {"common_name": "shop", "validity_days": 3650.0}
    assert AuthorityProvider().diff("id", olds, news).changes is False
    changed = AuthorityProvider().diff("id", olds, {**news, "validity_days": 1.0})
    assert changed.replaces == ["validity_days"]


@pytest.mark.parametrize(
    ("day", "authority_days", "renewed"),
    [(59, 3650, False), (61, 3650, True), (95, 3650, True), (61, 90, False)],
)
def test_the_last_third_of_its_time_renews_a_certificate(
    monkeypatch: pytest.MonkeyPatch, day: int, authority_days: int, renewed: bool
) -> None:
    issuer = authority(validity_days=float(authority_days))
    olds = issued(issuer)
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=day)
    monkeypatch.setattr(certificates, "_now", lambda: later)
    assert CertificateProvider().diff("id", olds, inputs_of(issuer)).changes is renewed


def test_a_certificate_lives_90_days_unless_it_is_told_otherwise() -> None:
    def program() -> None:
        ca = Authority("ca")
        for name, more in {"db": {}, "old": {"validity_days": 365}}.items():
            given: Any = {"authority": ca.issuer, "dns_names": ["db.shop.svc"], **more}
            Certificate(name, given)

    made = build(program).all("Certificate")
    assert {node.name: node.inputs["validity_days"] for node in made} == {"db": 90, "old": 365}


def test_keys_are_secret_and_certificates_are_not() -> None:
    def program() -> None:
        ca = Authority("ca")
        made = Certificate("db", {"authority": ca.issuer, "dns_names": ["db.shop.svc"]})
        for key, value in {
            "ca": ca.certificate,
            "ca_key": ca.key,
            "certificate": made.certificate,
            "key": made.key,
            "authority": made.authority,
            "serial": made.serial,
        }.items():
            pulumi.export(key, value)

    graph = build(program)
    assert graph.output_secrets[""] == {"ca_key", "key"}
    assert all(graph.outputs[""].values())
    assert graph.outputs[""]["authority"] == graph.outputs[""]["ca"]
    node = graph.one("Certificate")
    assert node.secrets == {"authority_key"}
    assert node.additional_secret_outputs == ("key",)
    assert graph.one("Authority").additional_secret_outputs == ("key",)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"dns_names": []}, "must have a name that clients connect to"),
        ({"dns_names": None, "ip_addresses": ()}, "must have a name that clients connect to"),
        ({"usages": ["client", "client"]}, "must be unique"),
        ({"dns_name": "db"}, "did you mean dns_names?"),
    ],
)
def test_bad_input_is_refused(args: dict[str, Any], expected: str) -> None:
    def program() -> None:
        given: Any = {"authority": Authority("ca").issuer, "dns_names": ["db.shop.svc"], **args}
        with pytest.raises(InputError, match=expected.replace("?", r"\?")):
            Certificate("db", given)

    assert [node.type for node in build(program)] == ["pulumi-python:dynamic:Authority"]


@pytest.mark.parametrize("component", [Authority, Certificate])
def test_a_resource_whose_name_is_no_common_name_needs_one(component: Any) -> None:
    name = "a" * 65

    def program() -> None:
        given: Any = {"authority": Authority("ca").issuer, "dns_names": ["db.shop.svc"]}
        args = given if component is Certificate else {}
        with pytest.raises(InputError, match=f"common_name is '{name}'; must be a name of 1 to 64"):
            component(name, args)
        component(name, {**args, "common_name": "db"})

    assert len(build(program).nodes) == 1 + 1


def test_an_address_is_the_same_however_it_is_written() -> None:
    def program() -> None:
        addresses: list[Any] = ["0:0::1", pulumi.Output.from_input("0::1")]
        Certificate("db", {"authority": Authority("ca").issuer, "ip_addresses": addresses})

    assert build(program).one("Certificate").inputs["ip_addresses"] == ["::1", "::1"]


def test_a_name_that_is_known_later_is_checked_later() -> None:
    def program() -> None:
        names = [pulumi.Output.from_input("not a host")]
        Certificate("db", {"authority": Authority("ca").issuer, "dns_names": names})

    with pytest.raises(InputError, match="must be a host name"):
        build(program)
