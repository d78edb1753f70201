"""Issuer: what certificates are issued with."""

from dataclasses import dataclass, field
from typing import ClassVar, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dds_patterns.arguments import Later, Secret, check_fields
from dds_patterns.arguments.pem import Certificates, PrivateKey
from dds_patterns.arguments.place import Place


@dataclass(frozen=True)
class Issuer:
    """A certificate authority: the ``issuer`` of an Authority, or one that is managed elsewhere."""

    GIVEN_BY: ClassVar[str] = "authority.issuer"

    certificate: Later[Certificates]
    """Its certificate, PEM. Of several, the first is the one of the key."""
    key: Secret[PrivateKey] = field(repr=False)
    """Its private key, PEM, of any kind that can sign: of an elliptic curve, RSA, Ed25519."""

    def __post_init__(self) -> None:
        check_fields("Issuer", self)
        if isinstance(self.certificate, str) and isinstance(self.key, str):
            loaded(self.certificate, self.key)


def loaded(certificate: str, key: str) -> tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes]:
    """An authority's certificate and key, or InputError if they cannot issue certificates."""
    place = Place("Issuer", "certificate")
    try:
        authority = x509.load_pem_x509_certificate(certificate.encode())
        basic = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    except ValueError:
        place.refuse(certificate, "must be a certificate that can be read")
    except x509.ExtensionNotFound:
        basic = None
    if basic is None or not basic.ca:
        place.refuse(certificate, "must be the certificate of an authority")
    place = Place("Issuer", "key").hidden()
    try:
        private = load_pem_private_key(key.encode(), None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        place.refuse(key, "must be a private key that can be read")
    if not isinstance(private, get_args(CertificateIssuerPrivateKeyTypes)):
        place.refuse(
            key, f"must be a key that can sign certificates, {type(private).__name__} cannot"
        )
    if private.public_key() != authority.public_key():
        place.refuse(key, "must be the key of the certificate")
    return authority, private
