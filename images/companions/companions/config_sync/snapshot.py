"""What a source says at one moment."""

import dataclasses
import hashlib
import re
from collections.abc import Mapping

# One file of the folder; slashes make folders in it. Names that start with ".." are the swap's own.
_NAME = re.compile(r"(?!\.\.)[-._A-Za-z0-9]+(/(?!\.\.)[-._A-Za-z0-9]+)*")
_LONGEST_NAME = 240


class SourceError(Exception):
    """The source cannot be had, or says what cannot be right. What was before stays."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All files, by name."""

    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        for name in self.files:
            if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME or name in (".", ".."):
                raise SourceError(f"{name!r} is no name for a file")
            parent = name.rpartition("/")[0]
            if parent and parent in self.files:
                raise SourceError(f"{parent!r} is a file and a folder")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(content) for content in self.files.values())

    @property
    def digest(self) -> str:
        """The same for the same files, and only for them."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{len(name)} {name} {len(content)} ".encode())
            digest.update(content)
        return digest.hexdigest()[:16]
