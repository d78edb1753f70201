"""Authority and Certificate: TLS keys that stay the same from one update to the next.

An authority belongs to one composition; nothing outside trusts it. Its key can issue certificates
for any name, so only Certificate gets it, in an Issuer, and no pod mounts it.
"""

import datetime
import ipaddress
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import pulumi
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider

from dds_patterns.arguments import (
    DISTINCT,
    NOT_EMPTY,
    Default,
    DefaultsTo,
    InputError,
    Later,
    between,
    checked,
    matching,
    one_of,
    resolved,
)
from dds_patterns.arguments.addresses import IpAddress
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.names import check_resource_name
from dds_patterns.values.issuer import Issuer, loaded

# What a certificate may authenticate (extended key usage): a server, a client.
_PURPOSES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}
# X.509 bounds a common name, in bytes.
_COMMON_NAME_LIMIT = 64
# Clock skew: a client whose clock is behind must accept a new certificate.
_SKEW = datetime.timedelta(hours=1)
# With less than this part of its validity left, an update renews it.
_RENEWED_AT = 1 / 3

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_CommonName = Annotated[
    str,
    Constraint(
        f"a name of 1 to {_COMMON_NAME_LIMIT} bytes without line feeds, such as Shop CA",
        lambda name: (
            name.isprintable()
            and name == name.strip()
            and 1 <= len(name.encode()) <= _COMMON_NAME_LIMIT
        ),
        ("", " a", "a\nb", "a\0", "x" * 65, "ä" * 33, "\ud800"),
    ),
    DefaultsTo("the resource's name"),
]
_DnsName = Annotated[
    str,
    matching(
        # A name that ends in a number is an address, which clients look up among the addresses.
        rf"(?!(.*\.)?[0-9]+$)(\*\.)?{_LABEL}(\.{_LABEL})*",
        "a host name such as db.shop.svc or *.shop.svc",
        most=253,
        odd=(
            "db_1.svc", "a.*.svc", "*", "**.a", "https://db", "db:80", "DB.svc", "db.", "a..b",
            "10.0.0.1", "-a", f"{'a' * 64}.svc", "a b", "a\n",
        ),
    ),
]  # fmt: skip
_Days = Annotated[int, between(1, 36500)]


class AuthorityArgs(TypedDict):
    """Arguments of Authority. A change replaces the authority and its certificates."""

    common_name: NotRequired[_CommonName]
    """Name in the certificate."""
    validity_days: NotRequired[Annotated[_Days, Default(3650)]]
    """Days for which it is valid. An authority is not renewed automatically."""


class AuthorityProvider(ResourceProvider):
    """Makes a key and a self-signed certificate, and new ones only when it is replaced."""

    # What is serialised is a reference to this class, which is no secret.
    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Make an authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = _now()
        certificate = _begun(props, key, now).sign(key, hashes.SHA256())
        return CreateResult(
            secrets.token_hex(8),
            {
                "common_name": props["common_name"],
                "validity_days": props["validity_days"],
                "certificate": certificate.public_bytes(Encoding.PEM).decode(),
                "key": _pem(key),
                "created": now.isoformat(timespec="seconds"),
            },
        )

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Another name or validity replaces the authority."""
        return _diff(("common_name", "validity_days"), _olds, _news)


class Authority(Resource, name="Authority"):
    """A certificate authority of its own. Its key is a secret in state and in outputs."""

    certificate: pulumi.Output[str]
    """The certificate that clients verify its certificates with, PEM."""
    key: pulumi.Output[str]
    """Its private key, PEM; a secret."""
    created: pulumi.Output[str]
    """When it was made, as ISO 8601 in UTC."""

    @property
    def issuer(self) -> Issuer:
        """What certificates are issued with: its certificate and key."""
        return Issuer(self.certificate, self.key)

    def __init__(
        self,
        name: str,
        args: AuthorityArgs | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Register the authority.

        :raises InputError: an invalid argument, an unknown argument
        """
        where = f'Authority "{name}"'
        check_resource_name(where, name)
        args = resolved(where, AuthorityArgs, _named(name, {} if args is None else args))
        super().__init__(
            AuthorityProvider(),
            name,
            {**args, "certificate": None, "key": None, "created": None},
            _with_secret_key(opts),
        )


class CertificateProvider(ResourceProvider):
    """Makes a key and a certificate for it, and new ones when it is replaced."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Issue a certificate.

        :raises InputError: an authority that cannot issue any
        """
        authority, authority_key = loaded(props["authority"], props["authority_key"])
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _begun(props, key, _now(), authority)
            .add_extension(
                x509.ExtendedKeyUsage([_PURPOSES[usage] for usage in props["usages"]]),
                critical=False,
            )
            .add_extension(_key_identifier(authority, authority_key.public_key()), critical=False)
        )
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in props["dns_names"]]
        names += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in props["ip_addresses"]]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        # Other algorithms of signatures, such as Ed25519's, include a hash.
        hashed = isinstance(
            authority_key, rsa.RSAPrivateKey | dsa.DSAPrivateKey | ec.EllipticCurvePrivateKey
        )
        certificate = builder.sign(authority_key, hashes.SHA256() if hashed else None)
        return CreateResult(
            secrets.token_hex(8),
            {
                # The authority's key stays in the inputs only, which are secret.
                **{argument: props[argument] for argument in _DECIDING},
                "certificate": certificate.public_bytes(Encoding.PEM).decode(),
                "key": _pem(key),
                "serial": f"{certificate.serial_number:x}",
            },
        )

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Other arguments replace the certificate, and so does its approaching expiry."""
        diff = _diff(_DECIDING, _olds, _news)
        if not diff.replaces and _nearly_over(_olds["certificate"], _olds["authority"]):
            return DiffResult(changes=True, replaces=["certificate"], delete_before_replace=False)
        return diff


_DECIDING = (
    "authority", "common_name", "dns_names", "ip_addresses", "usages", "validity_days",
    "generation",
)  # fmt: skip


class CertificateArgs(TypedDict):
    """Arguments of Certificate. A change replaces the certificate."""

    authority: Issuer
    """The authority that issues it: an Authority's ``issuer``, or one of your own."""
    dns_names: NotRequired[Annotated[Sequence[Later[_DnsName]], Default(())]]
    """Host names that it is valid for, also wildcards such as ``*.shop.svc``. A server's
    certificate needs a name or an address."""
    ip_addresses: NotRequired[Annotated[Sequence[Later[IpAddress]], Default(())]]
    """IP addresses that it is valid for."""
    common_name: NotRequired[_CommonName]
    """Name of its subject. Clients compare hosts with ``dns_names`` only."""
    usages: NotRequired[
        Annotated[
            Sequence[Annotated[str, one_of(*_PURPOSES)]], NOT_EMPTY, DISTINCT, Default(("server",))
        ]
    ]
    """``server``, ``client`` or both."""
    validity_days: NotRequired[Annotated[_Days, Default(90)]]
    """Days for which it is valid. It never outlives its authority. An update in the last third of
    that time renews it; without an update it expires."""
    generation: NotRequired[Annotated[int, Default(1)]]
    """Any other number makes a new certificate and key."""


class Certificate(Resource, name="Certificate"):
    """A key and its certificate. The key is a secret in state and in outputs.

    Only an update renews it, so with 90 days there must be one at least every 30 days.
    """

    certificate: pulumi.Output[str]
    """The certificate, PEM."""
    key: pulumi.Output[str]
    """Its private key, PEM (PKCS 8); a secret."""
    authority: pulumi.Output[str]
    """The certificate of the authority that issued it, PEM."""
    serial: pulumi.Output[str]
    """Its serial number in hexadecimal digits."""

    def __init__(
        self, name: str, args: CertificateArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the certificate.

        :raises InputError: an invalid argument, an unknown argument
        """
        where = f'Certificate "{name}"'
        check_resource_name(where, name)
        args = resolved(where, CertificateArgs, _named(name, args))
        if "server" in args["usages"] and not args["dns_names"] and not args["ip_addresses"]:
            raise InputError(
                where, "dns_names", args["dns_names"], "must have a name that clients connect to"
            )
        issuer = args["authority"]
        super().__init__(
            CertificateProvider(),
            name,
            {
                **args,
                "authority": issuer.certificate,
                "authority_key": pulumi.Output.secret(issuer.key),
                "ip_addresses": [checked(ip, _canonical) for ip in args["ip_addresses"]],
                "certificate": None,
                "key": None,
                "serial": None,
            },
            _with_secret_key(opts),
        )


def _named(name: str, args: Any) -> Any:
    """The arguments, with the resource's name for a common name that is left out."""
    if not isinstance(args, Mapping) or args.get("common_name") is not None:
        return args
    return {**args, "common_name": name}


def _canonical(address: str) -> str:
    return str(ipaddress.ip_address(address))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _begun(
    props: Mapping[str, Any],
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    issuer: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    """What the certificates of an authority and of a subject have in common.

    :param issuer: the authority's; without one it is an authority itself
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, props["common_name"])])
    until = now + datetime.timedelta(days=int(props["validity_days"]))
    signs = issuer is None
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(min(until, issuer.not_valid_after_utc) if issuer else until)
        .add_extension(x509.BasicConstraints(signs, 0 if signs else None), critical=True)
        .add_extension(_key_usage(signs_certificates=signs), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _diff(deciding: Sequence[str], olds: Mapping[str, Any], news: Mapping[str, Any]) -> DiffResult:
    replaces = [argument for argument in deciding if olds.get(argument) != news.get(argument)]
    return DiffResult(changes=bool(replaces), replaces=replaces, delete_before_replace=False)


def _key_identifier(
    authority: x509.Certificate, key: CertificateIssuerPublicKeyTypes
) -> x509.AuthorityKeyIdentifier:
    # Clients compare it with that of the authority, which an authority may form in its own way.
    try:
        own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _nearly_over(certificate: str, authority: str) -> bool:
    read = x509.load_pem_x509_certificate(certificate.encode())
    begin, end = read.not_valid_before_utc, read.not_valid_after_utc
    if end >= x509.load_pem_x509_certificate(authority.encode()).not_valid_after_utc:
        # A new one would expire with its authority, too.
        return False
    return (end - _now()) < (end - begin) * _RENEWED_AT


def _with_secret_key(opts: pulumi.ResourceOptions | None) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions.merge(
        opts, pulumi.ResourceOptions(additional_secret_outputs=["key"])
    )
