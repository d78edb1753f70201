"""Headers of forwarded requests and responses."""

from collections.abc import Iterable

HOPS = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade", "content-length", "expect",
})  # fmt: skip
"""Hop-by-hop headers (RFC 9110, 7.6.1), in lower case, and Expect, which is handled already; they are
not forwarded."""


def end_to_end(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers without HOPS and without those that Connection names."""
    given = [*headers]
    named = {
        token.strip().lower()
        for key, value in given
        if key.lower() == "connection"
        for token in value.split(",")
    }
    return [(k, v) for k, v in given if k.lower() not in HOPS | named]
