"""The lines of a file that another program appends to, however it is rotated.

What was read is given back to the disk: a hole takes its place, so that a log on a small volume
never fills it, without a rotation that the program had to be told of and could lose lines in.
"""

import ctypes
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_HOLE = 1 << 20
_BLOCK = 4096
_PIECE = 1 << 16
# A line that has no end by then is taken as it is.
_LONGEST_LINE = 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


class Tail:
    """Reads on where a position says."""

    def __init__(self, path: str, position: dict[str, Any], holes: bool = True) -> None:
        self._path = pathlib.Path(path)
        self._file: BinaryIO | None = None
        self._inode: int | None = position.get("inode")
        self._offset: int = position.get("offset", 0)
        self._released = 0
        self._holes = holes

    def lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Complete lines that are there now, each with the position behind it."""
        while True:
            file = self._file or self._open()
            if file is None:
                return
            yield from self._rest(file)
            if not self._followed(file):
                return

    def waiting(self) -> int:
        """Bytes that are there and not read yet."""
        if self._file is None:
            return 0
        return max(0, os.fstat(self._file.fileno()).st_size - self._offset)

    def release(self, position: dict[str, Any]) -> None:
        """Give back what lies before a position that is kept; nobody will read it again."""
        file, offset = self._file, position.get("offset", 0)
        if file is None or position.get("inode") != self._inode or not self._holes:
            return
        if offset - self._released < _HOLE:
            return
        whole = offset // _BLOCK * _BLOCK
        try:
            with pathlib.Path(f"/proc/self/fd/{file.fileno()}").open("r+b") as writable:
                failed = _libc.fallocate(
                    writable.fileno(),
                    _KEEP_SIZE | _PUNCH_HOLE,
                    ctypes.c_long(0),
                    ctypes.c_long(whole),
                )
        except OSError:
            failed = -1
        if failed:
            # A file system without holes, or a file that is not ours: its size is the program's.
            self._holes = False
        self._released = whole

    def _open(self) -> BinaryIO | None:
        candidates = [self._path]
        if self._inode is not None:
            # What was being read may have been renamed meanwhile.
            folder = self._path.parent
            candidates = [*sorted(folder.glob(f"{self._path.name}*")), self._path]
            candidates = [c for c in candidates if self._inode_of(c) == self._inode] or [self._path]
        try:
            file = candidates[0].open("rb")
        except FileNotFoundError:
            return None
        inode = os.fstat(file.fileno()).st_ino
        if inode != self._inode:
            self._inode, self._offset = inode, 0
        self._file, self._released = file, 0
        return file

    def _rest(self, file: BinaryIO) -> Iterator[tuple[bytes, dict[str, Any]]]:
        if os.fstat(file.fileno()).st_size < self._offset:
            # Somebody emptied it.
            self._offset = 0
        buffer = b""
        while True:
            file.seek(self._offset + len(buffer))
            piece = file.read(_PIECE)
            buffer += piece
            start = 0
            while (end := buffer.find(b"\n", start)) >= 0 or len(buffer) - start > _LONGEST_LINE:
                line = buffer[start:end] if end >= 0 else buffer[start:]
                start = end + 1 if end >= 0 else len(buffer)
                at = self._offset + start
                yield line.rstrip(b"\r"), {"inode": self._inode, "offset": at}
            self._offset += start
            buffer = buffer[start:]
            if not piece:
                return

    def _followed(self, file: BinaryIO) -> bool:
        """Whether another file has taken the path, which is opened next."""
        inode = self._inode_of(self._path)
        if inode is None or inode == self._inode:
            return False
        if self.waiting():
            # Written between the last read and the look at the path.
            return True
        file.close()
        self._file, self._inode, self._offset = None, inode, 0
        return True

    @staticmethod
    def _inode_of(path: pathlib.Path) -> int | None:
        try:
            return path.stat().st_ino
        except FileNotFoundError:
            return None
