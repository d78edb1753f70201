"""Certificates and keys as texts, PEM (RFC 7468)."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.place import Place

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s(?:(?!-----).)*-----END \1-----", re.DOTALL)
_CERTIFICATE, _KEY = "CERTIFICATE", "PRIVATE KEY"
_MOST = 256 * 1024


def _block(label: str) -> str:
    return f"-----BEGIN {label}-----\nx\n-----END {label}-----\n"


@dataclass(frozen=True, eq=False)
class _Pem(Constraint):
    """PEM. A refused value may be a key, so it is not shown."""

    def check(self, place: Place, value: Any) -> Any:
        """The text, or InputError."""
        return super().check(place.hidden(), value)


def _labels(text: str) -> set[str]:
    fits = "\0" not in text and len(text.encode("utf-8", "replace")) <= _MOST
    return set(_BLOCK.findall(text)) if fits else set()


def _are_certificates(text: str) -> bool:
    return _CERTIFICATE in _labels(text) and _KEY not in text


def _is_key(text: str) -> bool:
    keys = {label for label in _labels(text) if label.endswith(_KEY)}
    # An encrypted key says so in its label (PKCS 8) or in a line of its own.
    return len(keys) == 1 and "ENCRYPTED" not in text


_ODD = ("", "MIIB", "-----BEGIN CERTIFICATE-----\nx\n", f"{_block('CERTIFICATE')}\0")

Certificates = Annotated[
    str,
    _Pem(
        "PEM, with -----BEGIN CERTIFICATE-----, without a key, and at most 256 KiB",
        _are_certificates,
        (
            *_ODD, _block(_KEY), _block(_CERTIFICATE) + _block(_KEY),
            _block(_CERTIFICATE) + "x" * _MOST,
        ),
    ),
]  # fmt: skip
"""One certificate or several."""

PrivateKey = Annotated[
    str,
    _Pem(
        "PEM, with PRIVATE KEY-----, without a password, and at most 256 KiB",
        _is_key,
        (
            *_ODD, _block(_CERTIFICATE), _block(f"ENCRYPTED {_KEY}"), _block(_KEY) + "x" * _MOST,
            _block(f"RSA {_KEY}").replace("x", "Proc-Type: 4,ENCRYPTED\n\nx"),
        ),
    ),
]  # fmt: skip
"""A private key."""
