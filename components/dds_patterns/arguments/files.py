"""Declared types of paths in a container, and of the files there."""

import posixpath
from collections.abc import Mapping, Sequence
from typing import Annotated

from dds_patterns.arguments.constraints import DISTINCT, Constraint, plain_bytes
from dds_patterns.arguments.declared import Later, Secret

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
"""An absolute path of a mount, or of a file in a mounted folder."""
WritableFolders = Annotated[Sequence[MountPath], DISTINCT]
"""Separate folders, initially empty."""

_OBJECT_BYTES = 2**20
_FILES = Constraint(
    "at most 1 MiB of files together, the limit of a ConfigMap or Secret",
    lambda given: plain_bytes(given) < _OBJECT_BYTES,
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
