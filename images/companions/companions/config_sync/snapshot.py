"""What a source says at one moment."""

import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

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


def left_out(origin: str, name: str | bytes) -> None:
    """Say that an entry of a source can be no file here."""
    log.warning("%s: left out: %r", origin, name)


def _folders(name: str) -> Iterator[str]:
    """The folders that a file of the name makes."""
    while name := name.rpartition("/")[0]:
        yield name


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All files, by name."""

    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        for name in self.files:
            if not can_be_named(name):
                raise SourceError(f"{name!r} is no name for a file")
            for folder in _folders(name):
                if folder in self.files:
                    raise SourceError(f"{folder!r} is a file and a folder")

    @classmethod
    def of_those_that_can_be(cls, origin: str, files: Mapping[str, bytes]) -> "Snapshot":
        """Without the entries that can be no file here: one of them keeps no other away.

        Where a name is that of a file and of a folder, it is the file.

        :param origin: what the log calls the source of an entry that is left out
        """
        named = {name: content for name, content in files.items() if can_be_named(name)}
        kept = {
            name: content
            for name, content in named.items()
            if not any(folder in named for folder in _folders(name))
        }
        for name in files.keys() - kept.keys():
            left_out(origin, name)
        return cls(kept)

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
