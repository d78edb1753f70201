"""A token of the ServiceAccount, only for containers with RBAC rules."""

import dataclasses
from typing import cast

from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    DownwardAPIVolumeFileArgsDict,
    KeyToPathArgsDict,
    VolumeArgsDict,
    VolumeMountArgsDict,
)

from dds_patterns.arguments.names import LABEL_LIMIT
from dds_patterns.pods.companion import Companion
from dds_patterns.values.names import child

FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where client libraries read it."""

_TOKEN_SECONDS = 3600


def token(name: str) -> tuple[VolumeArgsDict, VolumeMountArgsDict]:
    """A token for one container, as a volume and its mount, for ``<name>-token``.

    It is a projected token: bound to the pod, and renewed by the kubelet before it expires.
    """
    name = child(name, "token", limit=LABEL_LIMIT)
    authority: KeyToPathArgsDict = {"key": "ca.crt", "path": "ca.crt"}
    namespace: DownwardAPIVolumeFileArgsDict = {
        "path": "namespace",
        "field_ref": {"field_path": "metadata.namespace"},
    }
    volume: VolumeArgsDict = {
        "name": name,
        "projected": {
            "default_mode": 0o440,
            "sources": [
                {"service_account_token": {"path": "token", "expiration_seconds": _TOKEN_SECONDS}},
                {"config_map": {"name": "kube-root-ca.crt", "items": [authority]}},
                {"downward_api": {"items": [namespace]}},
            ],
        },
    }
    return volume, {"name": name, "mount_path": FOLDER, "read_only": True}


def with_token(companion: Companion) -> Companion:
    """The companion with a token in each of its containers, if it has rules."""
    if not companion.rules:
        return companion
    volume, mount = token(companion.name)

    def mounted(container: ContainerArgsDict) -> ContainerArgsDict:
        mounts = [*cast(list[object], container.get("volume_mounts") or []), mount]
        return cast(ContainerArgsDict, {**container, "volume_mounts": mounts})

    return dataclasses.replace(
        companion,
        containers=tuple(mounted(container) for container in companion.containers),
        volumes=(*companion.volumes, volume),
    )
