"""The ids of a request: propagated from the caller, or new ones."""

import contextvars
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
# W3C Trace Context: version, trace, parent, flags.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = "0" * 32
_NO_PARENT = "0" * 16


@dataclass(frozen=True)
class Identity:
    """The ids of a request, for logs and for calls that the function makes."""

    request_id: str
    trace_id: str
    traceparent: str
    """This request's own; the parent of the function's calls."""
    event: Mapping[str, str] = field(default_factory=dict)
    """Attributes of a CloudEvent in binary mode, without ``ce-``."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers to send with every call that the function makes."""
        return {"X-Request-Id": self.request_id, "traceparent": self.traceparent}


current: contextvars.ContextVar[Identity | None] = contextvars.ContextVar("current", default=None)
"""The request that the running code handles."""


def of(headers: Mapping[str, str]) -> Identity:
    """The identity of a request. Malformed ids are replaced, and never logged.

    :param headers: a mapping with case-insensitive names
    """
    trace_id, flags = _hex(16), "00"
    parsed = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    traced = parsed is not None and parsed[1] != _NO_TRACE and parsed[2] != _NO_PARENT
    if parsed is not None and traced:
        trace_id, flags = parsed[1], parsed[3]
    request_id = headers.get("x-request-id", "")
    if not _REQUEST_ID.fullmatch(request_id):
        # A caller with tracing finds its request by the trace.
        request_id = trace_id
    event = {
        # Bytes that are not UTF-8 become question marks: the log must be valid UTF-8.
        key[3:].lower(): value.encode(errors="replace").decode()[:256]
        for key, value in headers.items()
        if key.lower().startswith("ce-")
    }
    return Identity(request_id, trace_id, f"00-{trace_id}-{_hex(8)}-{flags}", event)


def _hex(size: int) -> str:
    # Only for distinguishing requests; not a secret.
    return f"{random.getrandbits(8 * size):0{2 * size}x}"
