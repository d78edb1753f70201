"""Snapshots as files: names, temporary files, verification."""

import datetime
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# etcd appends the SHA-256 of a snapshot to it.
_DIGEST_BYTES = hashlib.sha256().digest_size
_FORM = "%Y%m%dT%H%M%SZ"
# Longer than any Job that writes a snapshot may run.
_ABANDONED = datetime.timedelta(hours=1)


class DamagedError(Exception):
    """A file is not a complete snapshot."""


def check(file: Path) -> None:
    """Verify the digest at the end of the file.

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
                f"{file.name} does not match the SHA-256 at its end: it is truncated or changed"
            )


def name(cluster: str, taken: datetime.datetime) -> str:
    """The file name of a snapshot."""
    return f"{cluster}-{taken.strftime(_FORM)}.db"


def existing(folder: Path, cluster: str) -> list[Path]:
    """The snapshots of a cluster, oldest first, without those of a cluster with a longer name."""
    return sorted(file for file, _ in _own(folder, cluster, "db"))


@contextmanager
def temporary(target: Path) -> Iterator[Path]:
    """A temporary file that is renamed to ``target`` after the block, or deleted if that fails."""
    part = target.with_suffix(".part")
    # Another run in the same second must not share it.
    part.touch(exist_ok=False)
    try:
        yield part
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def delete_abandoned(folder: Path, cluster: str, now: datetime.datetime) -> list[Path]:
    """Delete temporary files of killed runs; returns these."""
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
                continue  # Not a valid time, so not a snapshot.
            yield file, taken
