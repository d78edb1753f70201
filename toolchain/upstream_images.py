"""Upstream images: pulled if possible, otherwise built from the tools under the same name.

The project's images copy programs from them, so that every machine runs the same version.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain import builds, progress
from toolchain.errors import ToolchainError

if TYPE_CHECKING:
    import docker

_PIN_LABEL = "dds.pin"


@dataclass(frozen=True)
class UpstreamImage:
    """An image with only programs, which can be built here."""

    repository: str
    tools: tuple[str, ...]
    """The tools of its programs."""
    module: str
    """The Go module with the version of the image."""
    folder: str
    """The folder of the programs, with a slash at the end."""
    tag_prefix: str = ""
    """Prefix of the version in the tag."""

    def version(self, tool: str = "") -> str:
        """The pinned version in a tool's go.mod, such as ``3.6.8``; defaults to the first tool."""
        text = (builds.TOOLS[tool or self.tools[0]].folder / "go.mod").read_text()
        (found,) = re.findall(rf"{re.escape(self.module)} v([0-9.]+)", text)
        return str(found)

    @property
    def reference(self) -> str:
        """The image's reference."""
        return f"{self.repository}:{self.tag_prefix}{self.version()}"

    @property
    def programs(self) -> list[str]:
        """The names of its programs."""
        return [name for tool in self.tools for name in builds.TOOLS[tool].programs]

    def ensure(self, client: docker.DockerClient, tools: Mapping[str, Path]) -> str:
        """Build the image if the daemon does not have it, or has one of an older build.

        A pulled image is kept. Returns the reference.
        """
        import docker.errors

        name = self.reference
        # The folders' names have hashes of all inputs of the builds.
        pin = " ".join(tools[tool].parent.name for tool in self.tools)
        try:
            made_of = (client.images.get(name).labels or {}).get(_PIN_LABEL, pin)
        except docker.errors.ImageNotFound:
            made_of = ""
        if made_of == pin:
            return name
        with progress.heartbeat("upstream image", f"building {name}"):
            try:
                client.images.build(
                    fileobj=self._context(tools, pin),
                    custom_context=True,
                    tag=name,
                    rm=True,
                    forcerm=True,
                )
            except docker.errors.BuildError as error:
                raise ToolchainError(f"upstream image {name}: {error}") from error
        return name

    def _context(self, tools: Mapping[str, Path], pin: str) -> io.BytesIO:
        paths = {
            name: tools[tool] / name for tool in self.tools for name in builds.TOOLS[tool].programs
        }
        lines = [
            "FROM scratch",
            f'LABEL {_PIN_LABEL}="{pin}"',
            f"COPY {' '.join(paths)} {self.folder}",
            f"ENV PATH={self.folder}",
            f'CMD ["{self.programs[0]}"]',
        ]
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            dockerfile = "\n".join(lines).encode()
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(dockerfile)
            tar.addfile(entry, io.BytesIO(dockerfile))
            for name, path in paths.items():
                tar.add(path, arcname=name)
        context.seek(0)
        return context


ETCD = UpstreamImage(
    "gcr.io/etcd-development/etcd",
    ("etcd", "etcdutl"),
    "go.etcd.io/etcd/api/v3",
    "/usr/local/bin/",
    tag_prefix="v",
)
NATS = UpstreamImage("nats", ("nats-server",), "github.com/nats-io/nats-server/v2", "/")
IMAGES = (ETCD, NATS)
"""All upstream images."""
TOOLS = tuple(tool for image in IMAGES for tool in image.tools)
"""The tools of their programs."""
