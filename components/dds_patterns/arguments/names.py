"""Declared types of names, labels and annotations, as Kubernetes takes them."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from dds_patterns.arguments.constraints import Constraint, matching, plain_bytes
from dds_patterns.arguments.declared import Later
from dds_patterns.arguments.place import Place

LABEL_LIMIT = 63
"""Characters of a DNS label."""

_DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SERVICE = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_WORD = r"[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?"
_DNS_SAYS = "a DNS label: lower-case letters, digits and dashes, no dash at either end"
_ODD_NAMES = ("Web", "we_b", "we.b", "we b", "-web", "web-", "web\n", "wéb", "a/b")


def dns_label(most: int = LABEL_LIMIT) -> Constraint:
    """A DNS label of so many characters at most."""
    return matching(_DNS_LABEL, _DNS_SAYS, most=most, odd=_ODD_NAMES)


DnsLabel = Annotated[str, dns_label()]
"""A name for objects, containers and hosts (RFC 1123)."""
Namespace = DnsLabel
"""Name of a namespace."""
ObjectName = Annotated[
    str,
    matching(
        rf"{_DNS_LABEL}(\.{_DNS_LABEL})*",
        "a name of lower-case letters, digits, dashes and dots",
        most=253,
        odd=("Web", "we_b", "we b", "-web", "web-", "web.", "a..b", "a/b"),
    ),
]
"""Name of an object that exists already: a Secret, a StorageClass."""


def check_name(
    where: str, name: Any, *, reserve: int = 0, service: bool = False, replicated: bool = False
) -> None:
    """Refuse a component's name from which the names of its objects cannot be derived.

    :param reserve: characters that they add, of the 63 a DNS label may have
    :param service: whether a Service has this name, which must then begin with a letter (RFC 1035)
    :param replicated: whether a StatefulSet and a Service have this very name, without auto-naming,
        and its replicas have it with a suffix
    """
    place = Place(where, "name")
    if not isinstance(name, str) or not re.fullmatch(_DNS_LABEL, name):
        place.refuse(name, f"must be {_DNS_SAYS}")
    if service and not re.fullmatch(_SERVICE, name):
        place.refuse(name, "must begin with a letter, as the name of a Service does")
    if replicated and re.search(r"-r?[0-9]+$", name):
        # "db-0" is also the name of the first replica of "db", "db-r1" that of its second
        # StatefulSet.
        place.refuse(name, "must not end like -0 or -r1, which are suffixes of replicas")
    longest = LABEL_LIMIT - reserve
    if len(name) > longest:
        place.refuse(
            name,
            f"must have at most {longest} characters, it has {len(name)}: names derived from it "
            f"add {reserve} to the {LABEL_LIMIT} that a DNS label may have",
        )


def check_resource_name(where: str, name: Any) -> None:
    """Refuse an invalid name of a resource that gives no object of the cluster its name."""
    if not isinstance(name, str) or not re.fullmatch(r"\S{1,200}", name):
        Place(where, "name").refuse(name, "must be a word of at most 200 characters")


_KEY = matching(
    rf"(?:{_DNS_LABEL}(\.{_DNS_LABEL})*/)?(?=[^/]{{1,63}}$){_WORD}",
    "a key: at most 63 letters, digits, dashes, dots and underscores, after a prefix such as "
    "example.com/ if any",
    most=253 + 1 + LABEL_LIMIT,
    odd=("a b", "/a", "a/", "-a", "a-", "A.com/x/y", "UPPER.com/", "a:b", "a" * 64),
)
LabelKey = Annotated[str, _KEY]
"""Key of a label or annotation."""
_VALUE = matching(
    rf"({_WORD})?",
    "a label's value: at most 63 letters, digits, dashes, dots and underscores",
    most=LABEL_LIMIT,
    odd=("a b", "-a", "a-", "a/b", "a:b", "ä", "a\n"),
)
LabelValue = Annotated[str, _VALUE]
"""Value of a label."""
Label = Annotated[
    tuple[str, str],
    Constraint(
        "a label, its key and its value",
        lambda pair: len(pair) == 2 and _KEY.holds(pair[0]) and _VALUE.holds(pair[1]),  # noqa: PLR2004
        ((), ("a",), ("a", "b", "c"), ("a b", "true"), ("a", "b\n")),
    ),
]
"""One label, for example the one that admits clients."""
Labels = Mapping[LabelKey, Later[LabelValue]]
"""Labels of an object."""
Selector = Mapping[LabelKey, LabelValue]
"""Labels that pods or namespaces must have; an empty mapping is all of them."""
Annotations = Annotated[
    Mapping[LabelKey, Later[str]],
    Constraint(
        "at most 256 KiB of annotations",
        lambda given: plain_bytes(given) <= 256 * 1024,
        ({"a": "x" * (256 * 1024 + 1)},),
    ),
]
"""Annotations of an object."""

PortName = Annotated[
    str,
    matching(
        r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        "the name of a port: at most 15 lower-case letters, digits and dashes, with a letter among "
        "them",
        most=15,
        odd=("80", "HTTP", "http_2", "-http", "http-", "a--b", "ht tp"),
    ),
]
"""Name of a port (RFC 6335)."""
