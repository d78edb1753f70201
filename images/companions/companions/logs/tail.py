"""Follows a file that another program appends to, through every kind of log rotation.

The disk space of what was read is freed by punching holes into the file, so that a log does not
fill a small volume. A rotation would need support by the program, and could lose lines.
"""

import ctypes
import os
import pathlib
import secrets
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_HOLE = 1 << 20
_BLOCK = 4096
_PIECE = 1 << 16
# A longer line is split here.
_LONGEST_LINE = 1 << 18
# Bytes before a position that identify its file: inode numbers are reused, and a truncated file may
# have grown beyond the position. Less than a block, see release().
_KNOWN = 256
_libc = ctypes.CDLL(None, use_errno=True)


class Tail:
    """Continues to read at a position.

    A position has the file's ``inode``, the ``offset`` after what was read, a checksum of the bytes
    ``before`` it, and ``life``, a random id that changes when the file is truncated or recreated:
    life and offset are unique for each line.
    """

    def __init__(self, path: str, position: dict[str, Any], holes: bool = True) -> None:
        self._path = pathlib.Path(path)
        self._file: BinaryIO | None = None
        self._inode: int | None = position.get("inode")
        self._offset: int = position.get("offset", 0)
        self._life: str = position.get("life", "")
        self._checksum: int = position.get("before", 0)
        self._before = b""
        # Size of a rotated file at the last read.
        self._last_size = -1
        self._released = 0
        self._holes = holes

    def lines(self, last: bool = False) -> Iterator[tuple[bytes | None, dict[str, Any]]]:
        """New complete lines, each with the position after it.

        None instead of a line is the start of a new life: its position must be saved before the
        first of its lines is written.

        :param last: there will be no later read, so an incomplete last line is returned too
        """
        while (file := self._file or self._open()) is not None:
            if not self._is_known(file):
                self._begin(file)
                yield None, self._position()
            yield from self._rest(file)
            if not self._is_left(file, last):
                return
            if piece := os.pread(file.fileno(), _LONGEST_LINE, self._offset):
                # Its line feed will not follow any more.
                self._advance(piece)
                yield piece.rstrip(b"\r"), self._position()
            file.close()
            self._file = self._inode = None

    def waiting(self) -> int:
        """Bytes that are not read yet."""
        file = self._file
        if file is None:
            return 0
        try:
            return max(0, os.fstat(file.fileno()).st_size - self._offset)
        except ValueError:
            # Closed meanwhile: this runs in another thread.
            return 0

    def release(self, position: dict[str, Any]) -> None:
        """Free the disk space before a saved position; it will not be read again."""
        file, offset = self._file, position.get("offset", 0)
        if file is None or position.get("life") != self._life or not self._holes:
            return
        if offset - self._released < _HOLE:
            return
        # Except the last block: its bytes identify the position.
        whole = (offset // _BLOCK - 1) * _BLOCK
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
            # A file system without holes, or a file that is not writable here.
            self._holes = False
        self._released = whole

    def _open(self) -> BinaryIO | None:
        # The file may have been renamed meanwhile.
        for file in [*self._renamed(), self._path]:
            try:
                opened = file.open("rb")
            except FileNotFoundError:
                continue
            if file == self._path or self._is_known(opened):
                self._file, self._released = opened, 0
                return opened
            opened.close()
        return None

    def _renamed(self) -> list[pathlib.Path]:
        if self._inode is None or not self._path.parent.is_dir():
            return []
        return [
            file
            for file in sorted(self._path.parent.iterdir())
            if file.name.startswith(self._path.name) and _inode_of(file) == self._inode
        ]

    def _is_known(self, file: BinaryIO) -> bool:
        """Whether the position belongs to this file."""
        length = min(self._offset, _KNOWN)
        self._before = os.pread(file.fileno(), length, self._offset - length)
        return (
            bool(self._life)
            and os.fstat(file.fileno()).st_ino == self._inode
            and len(self._before) == length
            and zlib.crc32(self._before) == self._checksum
        )

    def _begin(self, file: BinaryIO) -> None:
        self._inode, self._life = os.fstat(file.fileno()).st_ino, secrets.token_hex(6)
        self._offset = self._checksum = self._released = 0
        self._before, self._last_size = b"", -1

    def _rest(self, file: BinaryIO) -> Iterator[tuple[bytes, dict[str, Any]]]:
        buffer = b""
        while True:
            piece = os.pread(file.fileno(), _PIECE, self._offset + len(buffer))
            buffer += piece
            start = 0
            while (end := buffer.find(b"\n", start)) >= 0 or len(buffer) - start > _LONGEST_LINE:
                following = end + 1 if end >= 0 else len(buffer)
                line = buffer[start:following]
                start = following
                # Advanced before the yield, so that the line is never read again.
                self._advance(line)
                yield line.removesuffix(b"\n").rstrip(b"\r"), self._position()
            buffer = buffer[start:]
            if not piece:
                return

    def _advance(self, read: bytes) -> None:
        self._offset += len(read)
        self._before = (self._before + read[-_KNOWN:])[-_KNOWN:]
        self._checksum = zlib.crc32(self._before)

    def _position(self) -> dict[str, Any]:
        return {
            "inode": self._inode,
            "life": self._life,
            "offset": self._offset,
            "before": self._checksum,
        }

    def _is_left(self, file: BinaryIO, last: bool) -> bool:
        """Whether the file was rotated, and its writer appends no more to it."""
        inode = _inode_of(self._path)
        if inode is None or inode == self._inode:
            return False
        # The writer may keep the old file open for a moment after the rotation.
        size, before = os.fstat(file.fileno()).st_size, self._last_size
        self._last_size = size
        return last or size == before


def _inode_of(path: pathlib.Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
