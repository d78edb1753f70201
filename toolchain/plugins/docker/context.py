"""The build context: its files, their digest, and the archive for the daemon."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from docker.utils.build import Pattern
from docker.utils.fnmatch import fnmatchcase

_OUTSIDE = ".dds.Dockerfile"

_TYPES = (
    (stat.S_ISLNK, "L"), (stat.S_ISBLK, "D"), (stat.S_ISFIFO, "p"), (stat.S_ISSOCK, "S"),
    (stat.S_ISCHR, "Dc"),
)  # fmt: skip


def ignore_patterns(context: Path, dockerfile: Path) -> list[Pattern]:
    """Patterns from ``<Dockerfile>.dockerignore``, or else from the context's .dockerignore."""
    for candidate in (dockerfile.with_name(f"{dockerfile.name}.dockerignore"),
                      context / ".dockerignore"):  # fmt: skip
        if candidate.is_file():
            lines = (line.strip() for line in candidate.read_text().splitlines())
            patterns = [Pattern(line) for line in lines if line and not line.startswith("#")]
            # Patterns such as "." become empty.
            return [pattern for pattern in patterns if pattern.cleaned_pattern]
    return []


def files(context: Path, patterns: Sequence[Pattern]) -> Iterator[tuple[str, Path]]:
    """All entries except folders that are not ignored, sorted by name in each folder.

    As in BuildKit, the last pattern that matches a path or one of its folders decides, so an
    exception applies in an ignored folder too.
    """
    exceptions = any(pattern.exclusion for pattern in patterns)

    def walk(folder: Path, prefix: str, matched: Sequence[bool]) -> Iterator[tuple[str, Path]]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            relative = prefix + entry.name
            ignored, found = _ignored(patterns, relative, matched)
            if entry.is_dir(follow_symlinks=False):
                if exceptions or not ignored:
                    yield from walk(Path(entry.path), f"{relative}/", found)
            elif not ignored:
                yield relative, Path(entry.path)

    yield from walk(context, "", [False] * len(patterns))


def _ignored(
    patterns: Sequence[Pattern], path: str, matched: Sequence[bool]
) -> tuple[bool, list[bool]]:
    """Whether a path is ignored, and whether each pattern matches it.

    :param matched: whether each pattern matches the path's folder
    """
    ignored = False
    found = []
    for pattern, above in zip(patterns, matched, strict=True):
        # A pattern that would change nothing is skipped.
        match = above or (
            pattern.exclusion == ignored
            and fnmatchcase(path, pattern.cleaned_pattern.replace("[^", "[!"))
        )
        found.append(match)
        if match:
            ignored = not pattern.exclusion
    return ignored, found


def digest(context: Path, dockerfile: Path) -> str:
    """The official plugin's digest of a context, so that its state shows no change here.

    It includes the Dockerfile, and the path, mode and content of each file (the target of a symlink).
    Raises OSError if a file cannot be read.
    """
    total = hashlib.sha256()

    def add(name: str, mode: str, content: bytes) -> None:
        total.update(name.encode() + mode.encode() + content + b"\0")

    add("Dockerfile", "----------", _content_digest(dockerfile))
    for name, path in files(context, ignore_patterns(context, dockerfile)):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            content = hashlib.sha256(_target(path).encode()).digest()
        elif stat.S_ISREG(mode):
            content = _content_digest(path)
        else:
            content = hashlib.sha256().digest()
        add(name, go_mode(mode), content)
    return total.hexdigest()


def _content_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _target(link: Path) -> str:
    if not link.exists():
        return str(link.readlink())
    resolved = os.path.realpath(link)
    return resolved if link.is_absolute() else os.path.relpath(resolved)


def go_mode(mode: int) -> str:
    """A file's mode in Go's format."""
    text = "".join(letter for is_type, letter in _TYPES if is_type(mode))
    for bit, letter in ((stat.S_ISUID, "u"), (stat.S_ISGID, "g"), (stat.S_ISVTX, "t")):
        text += letter if mode & bit else ""
    text = text or "-"
    return text + "".join(
        letter if mode & (1 << 8 - position) else "-" for position, letter in enumerate("rwxrwxrwx")
    )


@contextlib.contextmanager
def archive(context: Path, dockerfile: Path) -> Iterator[tuple[IO[bytes], str]]:
    """The context as a tar file, and the Dockerfile's name in it.

    A Dockerfile outside the context, or an ignored one, is added to the files.
    """
    inside = os.path.relpath(dockerfile, context)
    patterns = ignore_patterns(context, dockerfile)
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            names = set()
            for name, path in files(context, patterns):
                if path.is_socket():
                    continue
                member = tar.gettarinfo(str(path), arcname=name)
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                names.add(name)
                if member.isreg():
                    with path.open("rb") as content:
                        tar.addfile(member, content)
                else:
                    tar.addfile(member)
            if inside not in names:
                inside = _OUTSIDE if inside.startswith("..") else inside
                member = tarfile.TarInfo(inside)
                content_of_dockerfile = dockerfile.read_bytes()
                member.size = len(content_of_dockerfile)
                tar.addfile(member, io.BytesIO(content_of_dockerfile))
        file.seek(0)
        yield file, inside
