"""Names derived from names, within the limits of the cluster."""

import hashlib

from dds_patterns.arguments.names import LABEL_LIMIT

AUTONAME = 9
"""Characters that Pulumi's auto-naming adds: a dash and eight hexadecimal digits."""


def child(name: str, suffix: str, *, limit: int = LABEL_LIMIT - AUTONAME) -> str:
    """``name-suffix``; if that is too long, ``name`` is truncated and made unique by a hash.

    :param limit: longest result; by default what leaves room for auto-naming in a DNS label
    """
    whole = f"{name}-{suffix}"
    if len(whole) <= limit:
        return whole
    mark = hashlib.sha256(whole.encode()).hexdigest()[:6]
    room = limit - len(suffix) - len(mark) - 2
    if room < 1:
        raise ValueError(f"suffix {suffix!r} leaves no room for a name within {limit} characters")
    return f"{name[:room].rstrip('-.')}-{mark}-{suffix}"
