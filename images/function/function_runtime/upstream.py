"""What is common to all that hand a request on."""

from collections.abc import Iterable
from urllib.parse import quote

HOPS = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade", "content-length",
})  # fmt: skip
"""Headers that belong to one connection (RFC 9110, 7.6.1), in lower case; not handed on."""

# What may stand in a request target, "%" too: what is encoded stays as the client encoded it.
_AS_IT_IS = "".join(map(chr, range(0x21, 0x7F)))


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


def target(raw: str) -> str:
    """The target of the request that is handed on: nothing that the client encoded is decoded.

    :param raw: the target as it came. Bytes that no target may have (beyond ASCII, control
        characters) are encoded; to a server they mean the same.
    """
    return quote(raw.encode("latin-1"), safe=_AS_IT_IS)
