"""Files of a container, from an auto-named ConfigMap and Secret.

Changed content replaces them with objects of a new name, which triggers a rollout of the pods that
mount them.
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import pulumi
from pulumi_kubernetes.core.v1 import (
    ConfigMap,
    EmptyDirVolumeSourceArgsDict,
    Secret,
    VolumeArgsDict,
    VolumeMountArgsDict,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from dds_patterns.arguments.names import LABEL_LIMIT
from dds_patterns.arguments.place import Place
from dds_patterns.values.names import child

_SYSTEM_FOLDERS = (
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root",
    "/run", "/sbin", "/sys", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/var",
)  # fmt: skip
_KEY_LIMIT = 253


@dataclass(frozen=True)
class Mounted:
    """Volumes for the pod and mounts for the container."""

    volumes: tuple[VolumeArgsDict, ...]
    mounts: tuple[VolumeMountArgsDict, ...]


NOTHING_MOUNTED = Mounted((), ())


@dataclass(frozen=True)
class FileSet:
    """Checked files of one kind."""

    kind: str
    """``files`` or ``secret_files``."""
    contents: Mapping[str, pulumi.Input[str]]
    """By path."""
    keys: Mapping[str, str]
    """Key in the object, by path."""

    def register(
        self, name: str, metadata: ObjectMetaArgsDict, opts: pulumi.ResourceOptions
    ) -> ConfigMap | Secret:
        """Register the object that contains them."""
        data = {self.keys[path]: content for path, content in self.contents.items()}
        # Changed content is a new object, so this is immutable and the kubelet need not watch it.
        if self.kind == "files":
            return ConfigMap(name, metadata=metadata, data=data, immutable=True, opts=opts)
        hidden = {key: pulumi.Output.secret(content) for key, content in data.items()}
        return Secret(
            name, metadata=metadata, type="Opaque", string_data=hidden, immutable=True, opts=opts
        )

    def mounted(self, object_name: pulumi.Input[str], owner: str = "") -> Mounted:
        """One volume for each folder, with the files of that folder.

        :param owner: the companion whose volumes they are, if it is one
        """
        folders: dict[str, list[str]] = {}
        for path in self.contents:
            folders.setdefault(posixpath.dirname(path), []).append(path)
        volumes: list[VolumeArgsDict] = []
        mounts: list[VolumeMountArgsDict] = []
        for number, (folder, paths) in enumerate(sorted(folders.items())):
            volume = _volume(owner, f"{self.kind.replace('_', '-')}-{number}")
            items: Any = [
                {"key": self.keys[path], "path": posixpath.basename(path)} for path in sorted(paths)
            ]
            source: dict[str, Any] = {"config_map": {"name": object_name, "items": items}}
            if self.kind == "secret_files":
                source = {
                    "secret": {"secret_name": object_name, "items": items, "default_mode": 0o440}
                }
            volumes.append(cast(VolumeArgsDict, {"name": volume, **source}))
            mounts.append({"name": volume, "mount_path": folder, "read_only": True})
        return Mounted(tuple(volumes), tuple(mounts))


def file_set(
    where: str, kind: str, contents: Mapping[str, pulumi.Input[str]], taken: Mapping[str, str]
) -> FileSet:
    """Check the paths of ``files`` or ``secret_files``.

    :param taken: folders that are mount points already, with what is mounted
    """
    place = Place(where, kind)
    keys: dict[str, str] = {}
    names = [posixpath.basename(path) for path in contents]
    for path in contents:
        folder = posixpath.dirname(path)
        if folder in _SYSTEM_FOLDERS:
            place.refuse(
                path,
                f"must be in a folder of its own: the mount would hide the image's files in "
                f"{folder}",
            )
        if folder in taken:
            place.refuse(path, f"must be in another folder than {taken[folder]}")
        name = posixpath.basename(path)
        own = name if names.count(name) == 1 else path.strip("/")
        key = re.sub(r"[^-._A-Za-z0-9]", "_", own)[-_KEY_LIMIT:]
        if key in keys.values():
            place.refuse(path, "must differ from the other paths in its letters and digits")
        keys[path] = key
    return FileSet(kind, contents, keys)


def writable_folders(
    folders: Mapping[str, EmptyDirVolumeSourceArgsDict], owner: str = ""
) -> Mounted:
    """An empty volume for each folder.

    :param folders: by their absolute paths
    :param owner: the companion whose volumes they are, if it is one
    """
    volumes: list[VolumeArgsDict] = []
    mounts: list[VolumeMountArgsDict] = []
    for number, (folder, empty_dir) in enumerate(folders.items()):
        volume = _volume(owner, f"writable-{number}")
        volumes.append({"name": volume, "empty_dir": empty_dir})
        mounts.append({"name": volume, "mount_path": folder})
    return Mounted(tuple(volumes), tuple(mounts))


def _volume(owner: str, name: str) -> str:
    return child(owner, name, limit=LABEL_LIMIT) if owner else name
