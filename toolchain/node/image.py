"""Builds the node image from the programs in the tools cache."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from toolchain.node.program import archive

if TYPE_CHECKING:
    import docker

HERE = Path(__file__).resolve().parent
BASE = "debian:bookworm-slim"
REPOSITORY = "dds/node"

# Tool -> its programs on the image's PATH; below, programs that run as pods from their own images.
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "etcd": ("etcd", "etcdctl"),
    "kubernetes": (
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kubeadm",
        "kubectl",
    ),
}
POD_PROGRAMS = ("coredns", "local-path-provisioner", "metrics-server", "pause")


class BuildError(Exception):
    """The image could not be built; the message ends with the build's last lines."""


def _sources() -> Iterator[tuple[str, Path]]:
    for path in sorted((HERE / "program").rglob("*")):
        if path.suffix in (".py", ".yaml"):
            yield str(path.relative_to(HERE)), path
    yield "archive.py", HERE / "program" / "archive.py"
    yield "Dockerfile", HERE / "Dockerfile"


def _programs(tools: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    for tool, names in PROGRAMS.items():
        for name in names:
            yield f"bin/{name}", tools[tool] / name
    for name in POD_PROGRAMS:
        yield f"images/{name}", tools[name] / name


def context_hash(tools: Mapping[str, Path], base_id: str) -> str:
    """The hash of all inputs of the image.

    Programs are identified by their folder's name, which has the hash of their pins, their size and
    mtime: reading 700 MB in every run would take seconds.
    """
    digest = hashlib.sha256(base_id.encode())
    for name, path in _programs(tools):
        found = path.stat()
        digest.update(
            f"{name} {path.parent.parent.name} {found.st_size} {found.st_mtime_ns}\n".encode()
        )
    for name, path in _sources():
        digest.update(f"{name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _write_context(target: tarfile.TarFile, tools: Mapping[str, Path]) -> None:
    for name, path in _sources():
        _add(target, name, path, 0o644)
    with tempfile.TemporaryDirectory() as folder:
        for name, path in _programs(tools):
            if name.startswith("bin/"):
                _add(target, name, path, 0o755)
                continue
            image = name.removeprefix("images/")
            archive.write(image, path, Path(folder))
            for suffix in (".tar", ".ref"):
                made = Path(folder) / f"{image}{suffix}"
                _add(target, f"{name}{suffix}", made, 0o644)
                made.unlink()


def _add(target: tarfile.TarFile, name: str, path: Path, mode: int) -> None:
    # Without mtime and owner, the layer cache depends only on the content.
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = path.stat().st_size, mode
    with path.open("rb") as file:
        target.addfile(entry, file)


def ensure(
    client: docker.DockerClient, tools: Mapping[str, Path], say: Callable[[str], None]
) -> str:
    """The tag of the node image, which is built if the daemon does not have it.

    `tools`: the folder of the programs of each tool of PROGRAMS and POD_PROGRAMS. `say` is called with
    one line per step. The base image must exist. Raises BuildError.
    """
    import docker.errors

    tag = f"{REPOSITORY}:{context_hash(tools, client.images.get(BASE).id or '')}"
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.get(tag)
        return tag
    say(f"building {tag}")
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as target:
            _write_context(target, tools)
        file.seek(0)
        _build(client, file, tag, say)
    try:
        client.images.get(tag)
    except docker.errors.ImageNotFound:
        raise BuildError(
            "node image: the daemon's output ended before the build was complete"
        ) from None
    return tag


def _build(
    client: docker.DockerClient, context: IO[bytes], tag: str, say: Callable[[str], None]
) -> None:
    lines: list[str] = []
    output = client.api.build(
        fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True, decode=True
    )
    for message in output:
        if "error" in message:
            raise BuildError("node image: " + "\n".join([*lines[-15:], str(message["error"])]))
        text = str(message.get("stream", "")).rstrip()
        if text:
            lines.append(text)
        if text.startswith("Step "):
            say(text)
