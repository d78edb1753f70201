"""What the Kubernetes plugin makes of a kubeconfig."""

import ssl
from pathlib import Path

import pytest

from toolchain.plugins.kubernetes.kubeconfig import Access, Credential


def context() -> ssl.SSLContext:
    return Access("https://127.0.0.1:1", "default", {}, {}, Path()).ssl_context(Credential())


def greeting(opened: ssl.SSLContext) -> bytes:
    """What a connection from the context says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = opened.wrap_bio(incoming, outgoing, server_hostname="example")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def test_a_shared_context_is_not_changed_by_a_new_connection() -> None:
    """urllib3 sets the protocols for every connection, while other threads open theirs.

    OpenSSL copies the list without the interpreter's lock, so a list that is replaced just then is
    garbage in the greeting, which the server answers with the alert "decode error".
    """
    shared = context()
    assert b"\x08http/1.1" in greeting(shared)
    shared.set_alpn_protocols(["http/1.1"])
    with pytest.raises(ValueError, match=r"http/1\.1"):
        shared.set_alpn_protocols(["other"])
    assert type(shared).set_alpn_protocols is not ssl.SSLContext.set_alpn_protocols
    assert b"\x08http/1.1" in greeting(shared)


def test_servers_are_verified_unless_the_kubeconfig_says_otherwise() -> None:
    assert (context().verify_mode, context().check_hostname) == (ssl.CERT_REQUIRED, True)
    careless = Access(
        "https://127.0.0.1:1", "default", {"insecure-skip-tls-verify": True}, {}, Path()
    ).ssl_context(Credential())
    assert (careless.verify_mode, careless.check_hostname) == (ssl.CERT_NONE, False)
