"""The id that follows a request: taken over from the caller, or a new one."""

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
    """Who a request is, for logs and for what the function calls in turn."""

    request_id: str
    trace_id: str
    traceparent: str
    """Of this request; what the function calls has it as its parent."""
    event: Mapping[str, str] = field(default_factory=dict)
    """Attributes of a CloudEvent in binary mode, without ``ce-``."""

    @property
    def headers(self) -> dict[str, str]:
        """What to send with every request that this one leads to."""
        return {"X-Request-Id": self.request_id, "traceparent": self.traceparent}


current: contextvars.ContextVar[Identity | None] = contextvars.ContextVar("current", default=None)
"""The request that the running code works for."""


def of(environ: Mapping[str, object]) -> Identity:
    """The identity of a WSGI request. What is malformed is replaced, never repeated in a log."""
    trace_id, flags = _hex(16), "00"
    parsed = _TRACEPARENT.fullmatch(str(environ.get("HTTP_TRACEPARENT", "")))
    traced = parsed is not None and parsed[1] != _NO_TRACE and parsed[2] != _NO_PARENT
    if parsed is not None and traced:
        trace_id, flags = parsed[1], parsed[3]
    request_id = str(environ.get("HTTP_X_REQUEST_ID", ""))
    if not _REQUEST_ID.fullmatch(request_id):
        # A caller that traces finds its request by the trace.
        request_id = trace_id
    event = {
        key[8:].lower(): str(value)[:256]
        for key, value in environ.items()
        if key.startswith("HTTP_CE_")
    }
    return Identity(request_id, trace_id, f"00-{trace_id}-{_hex(8)}-{flags}", event)


def _hex(size: int) -> str:
    # To tell requests apart, not to keep a secret.
    return f"{random.getrandbits(8 * size):0{2 * size}x}"
