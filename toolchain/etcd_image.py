"""The upstream image of etcd: pulled where it can be, else made of the tools under the same name.

`images/etcd` takes its programs from it, so that on either kind of machine the same version runs.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain import builds, progress
from toolchain.errors import ToolchainError

if TYPE_CHECKING:
    import docker

REPOSITORY = "gcr.io/etcd-development/etcd"
TOOLS = ("etcd", "etcdutl")
FOLDER = "/usr/local/bin"
_PIN_LABEL = "dds.pin"


def version(tool: str = "etcd") -> str:
    """The version of etcd, ``v3.6.8``, that the go.mod of a tool pins."""
    text = (builds.TOOLS[tool].folder / "go.mod").read_text()
    (found,) = re.findall(r"go\.etcd\.io/etcd/api/v3 (v[0-9.]+)", text)
    return str(found)


def reference() -> str:
    """The image's name."""
    return f"{REPOSITORY}:{version()}"


def ensure(client: docker.DockerClient, tools: Mapping[str, Path]) -> str:
    """Make the image if the daemon has none, or one that was made of another build.

    A pulled one stays. Returns its name.
    """
    import docker.errors

    name = reference()
    # The folders' names carry the hashes of all that the programs are built from.
    pin = " ".join(tools[tool].parent.name for tool in TOOLS)
    try:
        made_of = (client.images.get(name).labels or {}).get(_PIN_LABEL, pin)
    except docker.errors.ImageNotFound:
        made_of = ""
    if made_of == pin:
        return name
    with progress.heartbeat("etcd image", f"making {name}"):
        try:
            client.images.build(
                fileobj=_context(tools, pin), custom_context=True, tag=name, rm=True, forcerm=True
            )
        except docker.errors.BuildError as error:
            raise ToolchainError(f"etcd image: {error}") from error
    return name


def _context(tools: Mapping[str, Path], pin: str) -> io.BytesIO:
    programs = {name: tools[tool] / name for tool in TOOLS for name in builds.TOOLS[tool].programs}
    lines = [
        "FROM scratch",
        f'LABEL {_PIN_LABEL}="{pin}"',
        f"COPY {' '.join(programs)} {FOLDER}/",
        f"ENV PATH={FOLDER}",
        'CMD ["etcd"]',
    ]
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        dockerfile = "\n".join(lines).encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        tar.addfile(entry, io.BytesIO(dockerfile))
        for name, path in programs.items():
            tar.add(path, arcname=name)
    context.seek(0)
    return context
