"""Generated configuration of a companion: an auto-named object whose change rolls the pods."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap, Secret, VolumeArgsDict, VolumeMountArgsDict
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.pods import labels as pod_labels
from components.pods.hosting import CompanionHosting, object_metadata
from components.values.names import child

TEMPORARY_SIZE = "16Mi"


@dataclass(frozen=True)
class Configured:
    """What a companion adds to the pod for its files."""

    config: ConfigMap
    volumes: tuple[VolumeArgsDict, ...]
    mounts: tuple[VolumeMountArgsDict, ...]
    """The configuration's folder, and /tmp to write to."""


@dataclass(frozen=True)
class Kept:
    """What a companion adds to the pod for its secrets."""

    secret: Secret
    volume: VolumeArgsDict
    mount: VolumeMountArgsDict


def metadata(
    application: str, name: str, part: str, hosting: CompanionHosting
) -> ObjectMetaArgsDict:
    """Metadata of a companion's own objects.

    :param application: what runs, for example ``nginx``
    :param part: ``sidecar``, ``ambassador`` or ``adapter``
    :param hosting: as it was resolved
    """
    return object_metadata(pod_labels.selector(application, name, part), hosting)


def configured(
    name: str,
    folder: str,
    files: Mapping[str, pulumi.Input[str]],
    *,
    metadata: ObjectMetaArgsDict,
    opts: pulumi.ResourceOptions,
) -> Configured:
    """Register the files, which are no secrets, for a container that also writes to /tmp.

    :param folder: absolute path at which they are mounted
    """
    config = ConfigMap(name, metadata=metadata, data=dict(files), immutable=True, opts=opts)
    volume, temporary = child(name, "config", limit=63), child(name, "tmp", limit=63)
    return Configured(
        config,
        (
            {"name": volume, "config_map": {"name": config.metadata["name"]}},
            {"name": temporary, "empty_dir": {"size_limit": TEMPORARY_SIZE}},
        ),
        (
            {"name": volume, "mount_path": folder, "read_only": True},
            {"name": temporary, "mount_path": "/tmp"},  # noqa: S108
        ),
    )


def kept(
    name: str,
    folder: str,
    files: Mapping[str, pulumi.Input[str]],
    *,
    metadata: ObjectMetaArgsDict,
    opts: pulumi.ResourceOptions,
) -> Kept:
    """Register files that are secrets.

    :param folder: absolute path at which they are mounted
    """
    secret = Secret(
        name,
        metadata=metadata,
        type="Opaque",
        string_data={key: pulumi.Output.secret(value) for key, value in files.items()},
        immutable=True,
        opts=opts,
    )
    volume = child(name, "secret", limit=63)
    return Kept(
        secret,
        {
            "name": volume,
            "secret": {"secret_name": secret.metadata["name"], "default_mode": 0o440},
        },
        {"name": volume, "mount_path": folder, "read_only": True},
    )
