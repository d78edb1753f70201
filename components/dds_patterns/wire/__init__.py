"""The components for other languages: values as plain JSON, the package's schema, the provider.

Names are in camel case on the wire, ``servicePort``, and in Python's spelling behind it.
"""

from dds_patterns.wire.reading import from_wire
from dds_patterns.wire.writing import to_wire

__all__ = ["from_wire", "to_wire"]
