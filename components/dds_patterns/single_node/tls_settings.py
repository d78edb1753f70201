"""Arguments of the TLS sidecar, and the checks across them.

Versions, ciphers and curves follow the profile "intermediate" of Mozilla's guidelines, version 6.0.
"""

from collections.abc import Sequence
from typing import Annotated, NotRequired

from dds_patterns.arguments import (
    DISTINCT,
    NOT_EMPTY,
    Default,
    DefaultsTo,
    InputError,
    Later,
    Secret,
    between,
    matching,
    one_of,
    resolved,
)
from dds_patterns.arguments.addresses import Network, Port, UnprivilegedPort
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import ObjectName, check_name
from dds_patterns.arguments.pem import Certificates, PrivateKey
from dds_patterns.arguments.together import different, left_out
from dds_patterns.values.nginx import HeaderKib
from dds_patterns.workloads.program import ProgramArgs

VERSIONS = ("1.2", "1.3")
"""Minimum versions of TLS to choose from. 1.0 and 1.1 are insecure and not offered."""

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
"""Ciphers of TLS 1.2 that may be used: those of the profile, all with forward secrecy and authenticated
encryption, in its order."""

CURVES = ("X25519", "prime256v1", "secp384r1")
"""Groups for the key exchange: those of the profile, in its order, that OpenSSL before 3.5
supports. Its X25519MLKEM768 would keep nginx with an older OpenSSL from starting."""

# The Secret's name is the component's and a suffix; the container has the name itself.
_RESERVE = 7
_RequestPath = Annotated[
    str,
    matching(
        r"/[-._~!&'()*+,;=:@%/?A-Za-z0-9]*",
        "a path such as /readyz, with a query if any",
        most=1024,
        odd=("readyz", "http://a/", "/a b", "/$x", "/a\n", "/x{y}", '/"', "/a\\", "/a#b", "/ä"),
    ),
]


class TlsSidecarArgs(ProgramArgs):
    """Arguments of TlsSidecar. The certificate is ``secret_name``, or ``certificate`` and ``key``."""

    image: Later[Image]
    """Image with nginx (1.19.10 or newer) and sh."""
    application_port: Port
    """Port on 127.0.0.1 on which the application speaks HTTP."""
    secret_name: NotRequired[Later[ObjectName]]
    """A Secret of the pod's namespace with ``tls.crt`` and ``tls.key`` (and ``ca.crt`` for client
    certificates), as cert-manager and ``kubectl create secret tls`` make it."""
    certificate: NotRequired[Secret[Certificates]]
    """The certificate and its intermediates, PEM: ``Certificate.certificate``."""
    key: NotRequired[Secret[PrivateKey]]
    """Its private key, PEM: ``Certificate.key``. It is stored in a Secret with a stable name."""
    port: NotRequired[Annotated[UnprivilegedPort, Default(8443)]]
    """Port for HTTPS."""
    redirect_port: NotRequired[UnprivilegedPort]
    """Port for plain HTTP that redirects every request (308) to HTTPS. Without it there is none."""
    public_port: NotRequired[Annotated[Port, DefaultsTo("``port``")]]
    """Port in redirects and in X-Forwarded-Port: the Service's."""
    status_port: NotRequired[Annotated[UnprivilegedPort, Default(8444)]]
    """Port for the probes and, from inside the pod, nginx's counters."""
    readiness_path: NotRequired[_RequestPath]
    """Path of the application that must answer with a status from 200 to 399 for the pod to be
    ready. The kubelet cannot probe a server on loopback itself. Without it only nginx is probed."""
    minimum_version: NotRequired[Annotated[str, one_of(*VERSIONS), Default(VERSIONS[0])]]
    """Minimum TLS version."""
    ciphers: NotRequired[
        Annotated[
            Sequence[Annotated[str, one_of(*CIPHERS)]],
            NOT_EMPTY,
            DISTINCT,
            DefaultsTo("all of them"),
        ]
    ]
    """Ciphers for TLS 1.2 by OpenSSL's names. TLS 1.3 has its own, all of them secure."""
    client_certificates: NotRequired[
        Annotated[str, one_of("none", "optional", "required"), Default("none")]
    ]
    """``optional`` requests one and forwards the result of its verification to the application;
    ``required`` rejects (400) a client without one of ``client_authority``."""
    client_authority: NotRequired[Secret[Certificates]]
    """Authorities of client certificates, PEM. With ``secret_name`` it is that Secret's ``ca.crt``."""
    trusted_proxies: NotRequired[Annotated[Sequence[Network], Default(())]]
    """Networks whose X-Forwarded-For is trusted. Without any, the application gets the address of
    the peer."""
    hsts_seconds: NotRequired[Annotated[int, between(0, 315_360_000), Default(0)]]
    """For how long browsers must use HTTPS only (Strict-Transport-Security); 0 sends no header."""
    timeout_seconds: NotRequired[Annotated[int, between(1, 86_400), Default(60)]]
    """Seconds without a byte from the application after which the response is 504."""
    header_kib: NotRequired[Annotated[HeaderKib, Default(32)]]
    """Largest header line of a request, and largest total of a response's headers, in KiB. Larger
    ones fail with 414 or 400, and 502. Each request in progress takes as much memory."""
    workers: NotRequired[Annotated[int, between(1, 16), Default(1)]]
    """Worker processes of nginx."""


def checked(where: str, name: str, args: TlsSidecarArgs) -> TlsSidecarArgs:
    """The arguments, complete, or InputError."""
    check_name(where, name, reserve=_RESERVE)
    args = resolved(where, TlsSidecarArgs, args)
    _check_source(where, args)
    different(where, args, "application_port", "port", "status_port", "redirect_port")
    if args["minimum_version"] != "1.2":
        left_out(where, args, ("ciphers",), "it is for TLS 1.2, which is disabled")
    return args


def _check_source(where: str, args: TlsSidecarArgs) -> None:
    """Require exactly one source of the certificate, complete."""
    authority, clients = "client_authority" in args, args["client_certificates"]
    if "secret_name" in args:
        for argument in ("certificate", "key"):
            if argument in args:
                raise InputError(where, argument, "<secret>", "must be left out with secret_name")
        if authority:
            expected = "must be left out: with secret_name it is that Secret's ca.crt"
            raise InputError(where, "client_authority", "<given>", expected)
        return
    for argument in ("certificate", "key"):
        if argument not in args:
            expected = "must be given, with the other of certificate and key, or else secret_name"
            raise InputError(where, argument, None, expected)
    if authority and clients == "none":
        expected = 'must be left out: client_certificates is "none"'
        raise InputError(where, "client_authority", "<given>", expected)
    if clients != "none" and not authority:
        expected = f'must be given: client_certificates is "{clients}"'
        raise InputError(where, "client_authority", None, expected)
