"""What a source says at one moment."""

import dataclasses
import hashlib
from collections.abc import Mapping

_LONGEST_PART, _LONGEST_NAME = 255, 1024


class SourceError(Exception):
    """The source cannot be had, or says what cannot be right. What was before stays."""


def can_be_named(name: str) -> bool:
    """Whether it can be a file of the folder; slashes make folders in it.

    Names that start with ".." lead elsewhere, or are the swap's own.
    """
    parts = name.split("/")
    return (
        name.isprintable()
        and len(name.encode(errors="replace")) <= _LONGEST_NAME
        and all(
            part not in ("", ".")
            and not part.startswith("..")
            and len(part.encode(errors="replace")) <= _LONGEST_PART
            for part in parts
        )
    )


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All files, by name."""

    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        for name in self.files:
            if not can_be_named(name):
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
            text = name.encode()
            digest.update(b"%d %s %d " % (len(text), text, len(content)))
            digest.update(content)
        return digest.hexdigest()[:16]
