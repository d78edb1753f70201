"""Snapshots as files: their names, what was left half-written, and whether one is whole."""

import datetime
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# etcd ends the stream of a snapshot with the SHA-256 of all before it.
_DIGEST_BYTES = hashlib.sha256().digest_size
_FORM = "%Y%m%dT%H%M%SZ"
# No Job that writes one runs for that long.
_ABANDONED = datetime.timedelta(hours=1)


class DamagedError(Exception):
    """A file is not the snapshot that etcd sent."""


def check(file: Path) -> None:
    """Compare the content with the digest at its end.

    ``etcdutl snapshot status`` opens the database, which may succeed without its last pages.

    :raises DamagedError: they differ
    """
    digest = hashlib.sha256()
    left = file.stat().st_size - _DIGEST_BYTES
    with file.open("rb") as content:
        while left > 0 and (piece := content.read(min(left, 2**20))):
            digest.update(piece)
            left -= len(piece)
        if left != 0 or content.read() != digest.digest():
            raise DamagedError(
                f"{file.name}: its content is not what the SHA-256 at its end says: it is cut "
                "short or changed"
            )


def name(cluster: str, taken: datetime.datetime) -> str:
    """The file's name of a snapshot."""
    return f"{cluster}-{taken.strftime(_FORM)}.db"


def kept(folder: Path, cluster: str) -> list[Path]:
    """The snapshots of a cluster, oldest first; those of one whose name goes on are not its."""
    return sorted(file for file, _ in _own(folder, cluster, "db"))


@contextmanager
def half_written(target: Path) -> Iterator[Path]:
    """Where to write before the file gets its name; nothing is left of it where that fails."""
    part = target.with_suffix(".part")
    # Another run of the same second keeps its own.
    part.touch(exist_ok=False)
    try:
        yield part
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def clear(folder: Path, cluster: str, now: datetime.datetime) -> list[Path]:
    """Delete what runs that were killed have left half-written; those files."""
    found = [file for file, taken in _own(folder, cluster, "part") if now - taken > _ABANDONED]
    for file in found:
        file.unlink(missing_ok=True)
    return found


def _own(folder: Path, cluster: str, suffix: str) -> Iterator[tuple[Path, datetime.datetime]]:
    form = re.compile(rf"{re.escape(cluster)}-(\d{{8}}T\d{{6}}Z)\.{suffix}")
    for file in folder.iterdir():
        if match := form.fullmatch(file.name):
            try:
                taken = datetime.datetime.strptime(match[1], _FORM).replace(tzinfo=datetime.UTC)
            except ValueError:
                continue  # Nobody's time, so nobody's snapshot.
            yield file, taken
