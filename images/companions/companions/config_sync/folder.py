"""A folder whose files change atomically, as the kubelet does it.

``..data`` is a symbolic link to a folder with all files; each file's own name is a link through
it. One rename of ``..data`` changes them together; a file that is open keeps its old content.
"""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator

from companions.config_sync.snapshot import Snapshot

_DATA = "..data"
_NEXT = "..data_next"
_PENDING = "..untold"


class Folder:
    """The folder that the application reads."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._number = 0

    @property
    def current(self) -> str | None:
        """Digest of the current files; None if there are none."""
        target = self._target()
        return None if target is None else target.rpartition("-")[2]

    @contextlib.contextmanager
    def candidate(self, snapshot: Snapshot) -> Iterator[pathlib.Path]:
        """The files in a hidden folder, which is deleted after the block unless swapped in."""
        self._number += 1
        while (new := self._path / f"..{self._number}-{snapshot.digest}").exists():
            self._number += 1
        new.mkdir()
        try:
            for name, content in snapshot.files.items():
                file = new / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            yield new
        finally:
            if self._target() != new.name:
                shutil.rmtree(new, ignore_errors=True)

    def swap(self, new: pathlib.Path) -> None:
        """Make the files those of ``new``, which came from ``candidate``."""
        old = self._target()
        with contextlib.suppress(FileNotFoundError):
            (self._path / _NEXT).unlink()
        (self._path / _NEXT).symlink_to(new.name)
        (self._path / _NEXT).rename(self._path / _DATA)
        self._link()
        if old is not None and old != new.name:
            shutil.rmtree(self._path / old, ignore_errors=True)

    def _link(self) -> None:
        """Create the links of the current files, and delete all others."""
        data = self._path / _DATA
        tops = {entry.name for entry in data.iterdir()} if data.is_dir() else set()
        there = {entry.name for entry in self._path.iterdir() if entry.is_symlink()}
        there -= {_DATA, _NEXT}
        for name in tops - there:
            (self._path / name).symlink_to(f"{_DATA}/{name}")
        for name in there - tops:
            (self._path / name).unlink()

    def tidy(self) -> None:
        """Delete what a killed run has left behind, and complete its swap."""
        kept = self._target()
        for entry in self._path.iterdir():
            ours = entry.name.startswith("..") and entry.is_dir() and not entry.is_symlink()
            if ours and entry.name != kept:
                shutil.rmtree(entry, ignore_errors=True)
        self._link()

    @property
    def notification_pending(self) -> bool:
        """Whether the application has not been notified of the current files yet.

        It is a file, so that the next run of this program knows it too.
        """
        return (self._path / _PENDING).exists()

    @notification_pending.setter
    def notification_pending(self, pending: bool) -> None:
        if pending:
            (self._path / _PENDING).touch()
        else:
            (self._path / _PENDING).unlink(missing_ok=True)

    def _target(self) -> str | None:
        try:
            return (self._path / _DATA).readlink().name
        except OSError:
            return None
