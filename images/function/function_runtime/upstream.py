"""What is common to all that hand a request on."""

HOPS = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade", "content-length",
})  # fmt: skip
"""Headers that belong to one connection (RFC 9110, 7.6.1), in lower case; not handed on."""
