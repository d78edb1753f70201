"""Declared types of what Kubernetes checks: names, labels, images, quantities, paths, files."""

import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from pulumi_kubernetes.core.v1 import (
    ResourceRequirementsArgsDict,
    VolumeArgsDict,
    VolumeMountArgsDict,
)

from components.arguments.addresses import Port
from components.arguments.constraints import DISTINCT, Address, Constraint, matching, nearest
from components.arguments.declared import Later, Secret
from components.arguments.deferred import checked, is_deferred
from components.arguments.place import Place

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
"""Name of an object that is there already: a Secret, a StorageClass."""


def check_name(where: str, name: Any, *, reserve: int = 0, service: bool = False) -> None:
    """Refuse a component's name from which the names of its objects could not be made.

    :param reserve: characters that they add, of the 63 a DNS label may have
    :param service: whether a Service is called so, which then begins with a letter (RFC 1035)
    """
    place = Place(where, "name")
    if not isinstance(name, str) or not re.fullmatch(_DNS_LABEL, name):
        place.refuse(name, f"must be {_DNS_SAYS}")
    if service and not re.fullmatch(_SERVICE, name):
        place.refuse(name, "must begin with a letter, as the name of a Service does")
    longest = LABEL_LIMIT - reserve
    if len(name) > longest:
        place.refuse(
            name,
            f"must have at most {longest} characters, it has {len(name)}: names derived from it "
            f"add {reserve} to the {LABEL_LIMIT} that a DNS label may have",
        )


def check_resource_name(where: str, name: Any) -> None:
    """Refuse what is no name of a resource from which no object of the cluster is named."""
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
"""One label, for example that by which clients are let in."""
Labels = Mapping[LabelKey, Later[LabelValue]]
"""Labels of an object."""
Selector = Mapping[LabelKey, LabelValue]
"""Labels that pods or namespaces must have; an empty mapping is all of them."""
Annotations = Annotated[
    Mapping[LabelKey, Later[str]],
    Constraint(
        "at most 256 KiB of annotations",
        lambda given: _plain_bytes(given) <= 256 * 1024,
        ({"a": "x" * (256 * 1024 + 1)},),
    ),
]
"""Annotations of an object."""


def _plain_bytes(texts: Mapping[str, Any]) -> int:
    """Size of what is known of keys and values."""
    return sum(
        len(part.encode())
        for key, text in texts.items()
        for part in (key, text)
        if isinstance(part, str)
    )


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

EnvName = Annotated[
    str,
    matching(
        r"[A-Za-z_][-._A-Za-z0-9]*",
        "the name of a variable: letters, digits, _ - and ., not beginning with a digit",
        most=1024,
        odd=("1A", "A=B", "A B", "Ä", "A\n"),
    ),
]
"""Name of an environment variable."""
EnvValue = Annotated[
    str, Constraint("a string, without a zero byte", lambda text: "\0" not in text, ("a\0b",))
]
Env = Mapping[EnvName, Later[EnvValue]]
"""Environment variables; none is a secret."""
Command = Annotated[
    Sequence[Later[EnvValue]],
    Constraint("a program, and its arguments if any", lambda words: len(words) > 0, ((),)),
]
"""A program and its arguments; none is a secret."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REGISTRY = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_IMAGE = re.compile(
    rf"(?:(?=[^/]*[.:]|localhost/){_REGISTRY}/)?{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_PINNED = "must have a tag other than latest or a digest, for example redis:7.0.15"


@dataclass(frozen=True, eq=False)
class _Image(Address):
    def has_credentials(self, value: str) -> bool:
        """Before a digest stands an @ as well."""
        return "@" in value and not value.partition("@")[2].startswith("sha256:")

    def expected(self, value: Any) -> str:
        """Tells a reference without a tag from what is none."""
        return _PINNED if _IMAGE.fullmatch(value) else super().expected(value)


def _is_pinned(reference: str) -> bool:
    parsed = _IMAGE.fullmatch(reference)
    return parsed is not None and bool(parsed["digest"] or parsed["tag"] not in (None, "latest"))


_ODD_IMAGES = (
    "", "redis", "redis:latest", "localhost:5000/redis", "https://r/app:1", "a//b:1", "/app:1",
    "app:1/", "App:1", "a b:1", "app:", "app@sha256:12", "app:1@", "user:p@r/a:1", "redis:7\n",
    "-app:1",
)  # fmt: skip
Image = Annotated[
    str,
    _Image(
        "an image reference, name:tag",
        _is_pinned,
        _ODD_IMAGES,
    ),
]
"""An image with a tag other than ``latest``, or better a digest."""

Registry = Annotated[
    str,
    Address(
        "a registry such as localhost:5000, without scheme and password",
        lambda text: re.fullmatch(rf"{_REGISTRY}(?:/{_COMPONENT})*", text) is not None,
        ("", "https://r", "user:pass@r", "r:5000/", "r/A", "r//a", "r:port", "r s", "r\n"),
    ),
]
"""A registry, with a folder in it if any."""

_QUANTITY = re.compile(r"(?P<number>[0-9]{1,15}(\.[0-9]{1,9})?)(?P<unit>m|[kMGTPE]|[KMGTPE]i)?")
_UNITS = {
    None: 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def amount(quantity: str) -> float:
    """The number that a well-formed quantity stands for."""
    parsed = _QUANTITY.fullmatch(quantity)
    if parsed is None:
        raise ValueError(f"not a quantity: {quantity!r}")
    return float(parsed["number"]) * _UNITS[parsed["unit"]]


def _quantity(
    units: Collection[str | None], least: float, says: str, odd: Collection[str]
) -> Constraint:
    def holds(text: str) -> bool:
        parsed = _QUANTITY.fullmatch(text)
        return parsed is not None and parsed["unit"] in units and amount(text) >= least

    return Constraint(says, holds, ("", "0", "-1", "1 Gi", "1gb", "1KiB", "many", "1e3", *odd))


_BYTES = ("k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_CPU = _quantity(
    (None, "m"), 0.001, "a number of processors such as 250m or 2", ("64Mi", "1k", "0.0001")
)
_MEMORY = _quantity(
    _BYTES, 4 * 2**20, "a size of at least 4Mi, such as 64Mi", ("64m", "64", "1Mi", "250m")
)
_SIZE = _quantity(_BYTES, 1, "a size such as 64Mi", ("64m", "64", "250m"))
_VOLUME = _quantity(
    _BYTES, 32 * 2**20, "a size of at least 32Mi, such as 1Gi", ("1Mi", "64m", "64")
)
_COUNT = _quantity((None,), 1, "a whole number", ("0.5",))

Cpu = Annotated[str, _CPU]
"""Processors, ``250m`` or ``2``."""
Memory = Annotated[str, _MEMORY]
"""Memory of a container."""
Size = Annotated[str, _SIZE]
"""Size of something that is not a container's memory and no volume that stays."""
VolumeSize = Annotated[str, _VOLUME]
"""Size of a persistent volume."""

_NATIVE = {"cpu": _CPU, "memory": _MEMORY, "ephemeral-storage": _SIZE}


@dataclass(frozen=True, eq=False)
class _Resources(Constraint):
    """Requests and limits of what Kubernetes knows, each a quantity of its kind."""

    def check(self, place: Place, value: Any) -> Any:
        """The resources, or InputError."""
        found = dict(value)
        for part in ("requests", "limits"):
            if is_deferred(value.get(part)):
                place.key(part).refuse_deferred("must be a plain mapping; Outputs may stand in it")
            if part in value:
                found[part] = {
                    resource: self._quantity(place.key(part).key(resource), resource, quantity)
                    for resource, quantity in value[part].items()
                }
        return found

    def _quantity(self, place: Place, resource: str, quantity: Any) -> Any:
        if resource in _NATIVE:
            constraint = _NATIVE[resource]
        elif "/" in resource:
            constraint = _COUNT
        elif resource.startswith("hugepages-"):
            constraint = _SIZE
        else:
            place.refuse(quantity, f"is no resource; {nearest(resource, _NATIVE)}")
        return checked(quantity, lambda known: constraint.check(place, known))


_ODD_RESOURCES = (
    {"limits": {"memory": "64m"}}, {"limits": {"cpu": "64Mi"}}, {"limits": {"memmory": "1"}},
    {"requests": {"cpu": "-1"}}, {"limits": {"example.com/gpu": "0.5"}},
)  # fmt: skip
Resources = Annotated[
    ResourceRequirementsArgsDict,
    _Resources(
        "requests and limits",
        bool,
        _ODD_RESOURCES,
    ),
]
"""Requests and limits of a container; what is left out keeps the default of every container."""

_KERNEL_FOLDERS = ("/dev", "/proc", "/sys")


def _is_path(text: str) -> bool:
    return (
        text.startswith("/")
        and text != "/"
        and posixpath.normpath(text) == text
        and not text.startswith("//")
        and text.isprintable()
        and len(text) <= 4096  # noqa: PLR2004 (of Linux)
    )


def _is_mount_path(text: str) -> bool:
    return (
        _is_path(text)
        and ":" not in text
        and not any(text == folder or text.startswith(f"{folder}/") for folder in _KERNEL_FOLDERS)
    )


_ODD_PATHS = ("", "/", "a", "./a", "/a/../b", "/a/", "//a", "/a//b", "/a\n", "/a/.")
Path = Annotated[str, Constraint("an absolute path such as /etc/app/a.conf", _is_path, _ODD_PATHS)]
"""An absolute path inside a container."""
MountPath = Annotated[
    str,
    Constraint(
        "an absolute path such as /etc/app/a.conf, without a colon and not in /dev, /proc or /sys",
        _is_mount_path,
        (*_ODD_PATHS, "/proc", "/sys/fs", "/dev/fd", "/etc/a:b"),
    ),
]
"""An absolute path on which, or in whose folder, something is mounted."""
WritableFolders = Annotated[Sequence[MountPath], DISTINCT]
"""Folders of their own, empty at first."""

_OBJECT_BYTES = 2**20
_FILES = Constraint(
    "at most 1 MiB of files together, which is what a ConfigMap or Secret takes",
    lambda given: _plain_bytes(given) < _OBJECT_BYTES,
    ({"/etc/large/a": "x" * _OBJECT_BYTES},),
)
_Content = Annotated[
    str,
    Constraint(
        "the content of a file, less than 1 MiB",
        lambda text: len(text.encode()) < _OBJECT_BYTES,
        ("x" * _OBJECT_BYTES,),
    ),
]
Files = Annotated[Mapping[MountPath, Later[_Content]], _FILES]
"""Files by their absolute paths; none is a secret."""
SecretFiles = Annotated[Mapping[MountPath, Secret[_Content]], _FILES]
"""Secret files by their absolute paths."""

Volumes = Sequence[VolumeArgsDict]
"""Volumes of a pod."""
VolumeMounts = Sequence[VolumeMountArgsDict]
"""Mounts of a container."""


class _Container(TypedDict, total=False):
    name: DnsLabel
    image: Later[Image]
    command: Later[Command]
    args: Later[Sequence[Later[EnvValue]]]
    resources: Resources


class _Variable(TypedDict, total=False):
    name: EnvName
    value: Later[EnvValue]


class _ContainerPort(TypedDict, total=False):
    container_port: Later[Port]
    name: PortName


class _Volume(TypedDict, total=False):
    name: DnsLabel


class _VolumeMount(TypedDict, total=False):
    name: DnsLabel
    mount_path: MountPath


class _EmptyDir(TypedDict, total=False):
    size_limit: Later[Size]


SHAPES: Mapping[str, type] = {
    "ContainerArgsDict": _Container,
    "ContainerPortArgsDict": _ContainerPort,
    "EmptyDirVolumeSourceArgsDict": _EmptyDir,
    "EnvVarArgsDict": _Variable,
    "VolumeArgsDict": _Volume,
    "VolumeMountArgsDict": _VolumeMount,
}
"""What is declared of Kubernetes' own shapes, by the name of the SDK's TypedDict: names, and what the
cluster would refuse or others could read."""
