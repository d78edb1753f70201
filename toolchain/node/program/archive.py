"""Writes an image with one static program, in the format of `ctr images import`.

Runs on the machine that builds the node image and, for programs of Debian, in that build; so it has no
imports of the project. The reference has a hash of the content: a node with older images imports again.
"""

import hashlib
import io
import json
import platform
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

NAMESPACE = "node.invalid"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def _layer(program: str, data: bytes, links: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        _add(tar, "etc/passwd", b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
        _add(tar, f"bin/{program}", data, 0o755)
        for link in links:
            entry = tarfile.TarInfo(f"bin/{link}")
            entry.type, entry.linkname = tarfile.SYMTYPE, program
            tar.addfile(entry)
    return buffer.getvalue()


def write(name: str, program: Path, folder: Path, links: Sequence[str] = ()) -> str:
    """Writes `<folder>/<name>.tar` and `<name>.ref` for an image with the entry point `program`.

    `links` are more names of the program, as symlinks. Returns the image's reference.
    """
    layer = _layer(program.name, program.read_bytes(), links)
    digest = hashlib.sha256(layer).hexdigest()
    config: Mapping[str, object] = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": [f"/bin/{program.name}"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    encoded = json.dumps(config, sort_keys=True).encode()
    reference = f"{NAMESPACE}/{name}:{hashlib.sha256(encoded).hexdigest()[:12]}"
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]
    with tarfile.open(folder / f"{name}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, "manifest.json", json.dumps(manifest).encode())
        _add(tar, "config.json", encoded)
        _add(tar, "layer.tar", layer)
    (folder / f"{name}.ref").write_text(reference + "\n")
    return reference


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
