"""The files of a source at one moment."""

import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

_LONGEST_PART, _LONGEST_NAME = 255, 1024


class SourceError(Exception):
    """The source is unavailable or invalid. The current files stay."""


def is_valid_name(name: str) -> bool:
    """Whether it is a valid name of a file in the folder; slashes separate folders.

    Names that start with ".." lead outside, or belong to the swap.
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


def log_left_out(origin: str, name: str | bytes) -> None:
    """Log that an entry of a source is not a valid file."""
    log.warning("%s: left out: %r", origin, name)


def _folders(name: str) -> Iterator[str]:
    """The parent folders in the name of a file."""
    while name := name.rpartition("/")[0]:
        yield name


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All files, by name."""

    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        for name in self.files:
            if not is_valid_name(name):
                raise SourceError(f"{name!r} is not a valid file name")
            for folder in _folders(name):
                if folder in self.files:
                    raise SourceError(f"{folder!r} is a file and a folder")

    @classmethod
    def with_valid_names(cls, origin: str, files: Mapping[str, bytes]) -> "Snapshot":
        """Leave out invalid names; the other files are synchronized.

        A name that is both a file and a folder is the file.

        :param origin: name of the source in the log
        """
        named = {name: content for name, content in files.items() if is_valid_name(name)}
        kept = {
            name: content
            for name, content in named.items()
            if not any(folder in named for folder in _folders(name))
        }
        for name in files.keys() - kept.keys():
            log_left_out(origin, name)
        return cls(kept)

    @property
    def size(self) -> int:
        """Total bytes of all files."""
        return sum(len(content) for content in self.files.values())

    @property
    def digest(self) -> str:
        """A hash of all names and contents."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            text = name.encode()
            digest.update(b"%d %s %d " % (len(text), text, len(content)))
            digest.update(content)
        return digest.hexdigest()[:16]
