"""How arguments are declared, checked and described: once, for every component.

The annotation of a TypedDict's key declares its type and constraints (``declared``), the engine
validates a user's values against it (``engine``), and the tables of the docs are generated from it
(``describe``).
"""

from dds_patterns.arguments.constraints import (
    DISTINCT,
    NOT_EMPTY,
    between,
    matching,
    nearest,
    one_of,
)
from dds_patterns.arguments.declared import Default, DefaultsTo, Later, Secret
from dds_patterns.arguments.deferred import checked, is_deferred
from dds_patterns.arguments.engine import check_fields, resolved
from dds_patterns.arguments.errors import InputError

__all__ = [
    "DISTINCT",
    "NOT_EMPTY",
    "Default",
    "DefaultsTo",
    "InputError",
    "Later",
    "Secret",
    "between",
    "check_fields",
    "checked",
    "is_deferred",
    "matching",
    "nearest",
    "one_of",
    "resolved",
]
