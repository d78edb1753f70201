"""The lines of a file that another program appends to, however it is rotated.

What was read is given back to the disk: a hole takes its place, so that a log on a small volume
never fills it, without a rotation that the program had to be told of and could lose lines in.
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
# A line that has no end by then is taken as it is.
_LONGEST_LINE = 1 << 18
# So many bytes before a position tell whether it is of this file: an inode's number is given again,
# and a file that was emptied may have grown beyond the position. Less than a block, see release().
_KNOWN = 256
_libc = ctypes.CDLL(None, use_errno=True)


class Tail:
    """Reads on where a position says.

    A position has the file's ``inode``, the ``offset`` behind what was read, a checksum of the
    bytes ``before`` it, and ``life``, a random name of what the file holds: another one once it was
    emptied or made anew, so that life and offset are never the same for two lines.
    """

    def __init__(self, path: str, position: dict[str, Any], holes: bool = True) -> None:
        self._path = pathlib.Path(path)
        self._file: BinaryIO | None = None
        self._inode: int | None = position.get("inode")
        self._offset: int = position.get("offset", 0)
        self._life: str = position.get("life", "")
        self._checksum: int = position.get("before", 0)
        self._before = b""
        # Of a file that another has followed, at the last look.
        self._last_size = -1
        self._released = 0
        self._holes = holes

    def lines(self, last: bool = False) -> Iterator[tuple[bytes | None, dict[str, Any]]]:
        """Complete lines that are there now, each with the position behind it.

        None in the place of a line is the start of another life: its position is to be kept before
        the first of its lines is written on.

        :param last: there is no later look, so nothing is left to it
        """
        while (file := self._file or self._open()) is not None:
            if not self._is_known(file):
                self._begin(file)
                yield None, self._position()
            yield from self._rest(file)
            if not self._is_left(file, last):
                return
            if piece := os.pread(file.fileno(), _LONGEST_LINE, self._offset):
                # It will have no line feed any more.
                self._advance(piece)
                yield piece.rstrip(b"\r"), self._position()
            file.close()
            self._file = self._inode = None

    def waiting(self) -> int:
        """Bytes that are there and not read yet."""
        file = self._file
        if file is None:
            return 0
        try:
            return max(0, os.fstat(file.fileno()).st_size - self._offset)
        except ValueError:
            # Closed meanwhile: this is asked by another thread.
            return 0

    def release(self, position: dict[str, Any]) -> None:
        """Give back what lies before a position that is kept; nobody will read it again."""
        file, offset = self._file, position.get("offset", 0)
        if file is None or position.get("life") != self._life or not self._holes:
            return
        if offset - self._released < _HOLE:
            return
        # But for the last block: it holds the bytes by which the position is known.
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
            # A file system without holes, or a file that is not ours: its size is the program's.
            self._holes = False
        self._released = whole

    def _open(self) -> BinaryIO | None:
        # What was being read may have been renamed meanwhile.
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
        """Whether this file still is the one that the position is of."""
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
                # Before it is given on: whatever becomes of it, it is not read again.
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
        """Whether another file has taken the path, and nothing more comes into this one."""
        inode = _inode_of(self._path)
        if inode is None or inode == self._inode:
            return False
        # Who writes may have had this one open for a moment after the other was there.
        size, before = os.fstat(file.fileno()).st_size, self._last_size
        self._last_size = size
        return last or size == before


def _inode_of(path: pathlib.Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
