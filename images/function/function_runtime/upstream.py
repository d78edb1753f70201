"""What is common to all that hand a request on."""

from collections.abc import Iterable

HOPS = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade", "content-length", "expect",
})  # fmt: skip
"""Headers that belong to one connection (RFC 9110, 7.6.1), in lower case; not handed on. What Expect
asks for was answered by then."""


def end_to_end(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers that are handed on: without HOPS, and without those that Connection names."""
    given = [*headers]
    named = {
        token.strip().lower()
        for key, value in given
        if key.lower() == "connection"
        for token in value.split(",")
    }
    return [(k, v) for k, v in given if k.lower() not in HOPS | named]
