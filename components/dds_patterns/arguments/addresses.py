"""Declared types of addresses: ports, hosts, endpoints, URLs, networks."""

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, TypeVar

from dds_patterns.arguments.constraints import Address, Constraint, between, matching, one_of

T = TypeVar("T")

_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?"
_NAME = rf"{_LABEL}(\.{_LABEL})*\.?"
_IPV6 = r"\[[0-9A-Fa-f:.]+\]"
_HIGHEST_PORT = 65535
_LONGEST_HOST = 253

Port = Annotated[int, between(1, _HIGHEST_PORT)]
"""A port number."""
UnprivilegedPort = Annotated[int, between(1024, _HIGHEST_PORT)]
"""A port that a program may bind without a capability."""
Protocol = Annotated[str, one_of("TCP", "UDP", "SCTP")]
"""Protocol of the transport layer."""
AppProtocol = Annotated[
    str, one_of("tcp", "http", "https", "redis", "memcached", "etcd", "nats", "mysql")
]
"""Protocol of the application; ``tcp`` if unspecified."""


def _is_host(text: str) -> bool:
    if text.startswith("["):
        return text.endswith("]") and _is_address(text[1:-1], 6)
    if not re.fullmatch(_NAME, text) or len(text) > _LONGEST_HOST:
        return False
    # A name that ends in a number must be an address: a resolver accepts nothing else.
    return not text.rstrip(".").rpartition(".")[2].isdecimal() or _is_address(text, 4)


def _is_address(text: str, version: int | None = None) -> bool:
    parsed = _parsed(ipaddress.ip_address, text)
    return parsed is not None and version in (None, parsed.version)


def _parsed(parse: Callable[[str], T], text: str) -> T | None:
    # A % is followed by any text, as the name of an interface.
    if "%" in text:
        return None
    try:
        return parse(text)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a host is the machine, or the pod, itself."""
    host = host.strip("[]")
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_ip_host(host: str) -> bool:
    """Whether a host is an IP address, which is no name that a certificate has."""
    return host.endswith("]") or host.rpartition(".")[2].isdecimal()


def namespace_of(host: str) -> str | None:
    """Namespace of the Service with this name, empty for the pod's own; None for a host outside.

    ``web`` is the Service of the pod's own namespace, ``web.shop`` and ``web.shop.svc`` one of
    another; everything else is outside, and so is a name that ends with a dot.
    """
    _, *parts = host.split(".")
    if len(parts) > 1:
        return parts[-2] if parts[-1] == "svc" else None
    if host.endswith((".", "]")):
        return None
    return "".join(parts)


def is_certified(host: str) -> bool:
    """Whether a certificate can have a host among its names."""
    return not is_ip_host(host) and not host.endswith(".")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= _HIGHEST_PORT


def is_endpoint(text: str) -> bool:
    """Whether it is ``host:port``."""
    host, _, port = text.rpartition(":")
    return _is_host(host) and _is_port(port)


_ODD_HOSTS = (
    "", "a b", "a..b", "-a", "a-", "a_b", "a\nb", "#1", "http://a", "a/b", "300.1.1.1", "[::1",
    "[fe80::1%x]", "user:secret@a", f"{'a' * 64}.example", ".".join(["a" * 60] * 5),
)  # fmt: skip

Host = Annotated[
    str, Address("a host name or IP address such as db.example.com", _is_host, _ODD_HOSTS)
]
"""A DNS name or an IP address, IPv6 in brackets."""

ServerName = Annotated[
    Host,
    Constraint(
        "a name such as db.example.com, no address and without a dot at its end",
        is_certified,
        ("203.0.113.7", "[fd00::1]", "db.example.com."),
    ),
]
"""A name that a server's certificate can have."""

_ODD_ENDPOINTS = (
    *(f"{host}:80" for host in _ODD_HOSTS), "web", "web:", ":80", "web:0", "web:99999",
    "web:-1", "web:8o", "web:80 ", "web:80/", "http://web:80", "user:secret@web:80",
)  # fmt: skip
Endpoint = Annotated[str, Address("host:port, for example web:8080", is_endpoint, _ODD_ENDPOINTS)]
"""``host:port`` of a server."""

Network = Annotated[
    str,
    Constraint(
        "a network with its mask, for example 203.0.113.0/24",
        # Without a mask the standard library reads a single address.
        lambda text: "/" in text and _parsed(ipaddress.ip_network, text) is not None,
        ("", "203.0.113.0", "203.0.113.0/33", "203.0.113.1/24", "all/0", "fe80::%x/64"),
    ),
]
"""A network of IP addresses."""
IpAddress = Annotated[
    str,
    Constraint(
        "an IP address such as 127.0.0.1",
        _is_address,
        ("", "localhost", "1.2.3", "127.0.0.1/8", "fe80::1%x\n"),
    ),
]
"""An IP address to bind or reach."""


def url(*schemes: str, says: str = "") -> Constraint:
    """A URL of one of the schemes, with a host and at most a port, a path and a query.

    :param says: what it is, with an example
    """
    wanted = says or f"a URL such as {schemes[0]}://web.example/path"

    def holds(text: str) -> bool:
        parsed = re.fullmatch(
            rf"(?:{'|'.join(schemes)})://([^/?#@\s:]+|{_IPV6})(?::([0-9]+))?([/?][!-~]*)?", text
        )
        return parsed is not None and _is_host(parsed[1]) and _is_port(parsed[2] or "80")

    odd = (
        "", "web", "//web", "web/path", "ftp://web", f"{schemes[0]}://", f"{schemes[0]}://a b/",
        f"{schemes[0]}://web:99999/", f"{schemes[0]}://user:secret@web/", f"{schemes[0]}://a..b/",
        f"{schemes[0]}://web/\n", f"{schemes[0].upper()}x://web/",
    )  # fmt: skip
    return Address(wanted, holds, odd)


HttpPath = Annotated[
    str,
    matching(
        r"/[!-~]*", "a path that begins with a slash, such as /ready",
        most=1024, odd=("ready", "http://a/", "/a b", "/a\nb", "/ä"),
    ),
]  # fmt: skip
"""Path of an HTTP request."""

HeaderName = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][-A-Za-z0-9]*", "the name of a header such as X-User",
        most=64, odd=("X User", "X_User", "X-User:", "-X", "X\r\nY: z", "Ä"),
    ),
]  # fmt: skip
"""Name of an HTTP header, in letters, digits and dashes."""
