"""Declared types for containers, and declarations for Kubernetes' own types."""

from collections.abc import Mapping, Sequence
from typing import Annotated, TypedDict

from pulumi_kubernetes.core.v1 import VolumeArgsDict, VolumeMountArgsDict

from dds_patterns.arguments.addresses import Port
from dds_patterns.arguments.constraints import Constraint, matching
from dds_patterns.arguments.declared import Later
from dds_patterns.arguments.files import MountPath
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import DnsLabel, PortName
from dds_patterns.arguments.quantities import Resources, Size

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
"""Declarations for Kubernetes' own types, by the name of the SDK's TypedDict: names, values that
the cluster would refuse, and values that must not be secret."""
