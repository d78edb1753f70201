"""The images of the cluster itself, for machines without a container registry."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain import base_image, builds, progress, upstream_images
from toolchain.errors import ToolchainError
from toolchain.paths import ROOT

if TYPE_CHECKING:
    import docker

REGISTRY_FOLDER = ROOT / "images" / "registry"


def ensure(client: docker.DockerClient) -> dict[str, str]:
    """Build the node and the registry image if the daemon does not have them.

    Returns the references by the variables that the compositions read.
    """
    # In parallel: the base image waits for the network, the builds use the processors.
    with ThreadPoolExecutor(1) as pool:
        base = pool.submit(base_image.ensure, client, False)
        tools = builds.ensure_all([*builds.NODE_TOOLS, *upstream_images.TOOLS])
        base.result()
    for image in upstream_images.IMAGES:
        image.ensure(client, tools)
    return {
        "DDS_NODE_IMAGE": os.environ.get("DDS_NODE_IMAGE") or _node(client, tools),
        "DDS_REGISTRY_IMAGE": os.environ.get("DDS_REGISTRY_IMAGE") or _registry(client),
    }


def _node(client: docker.DockerClient, tools: Mapping[str, Path]) -> str:
    from toolchain.node import image

    try:
        return image.ensure(client, tools, lambda line: progress.say("node image", line))
    except image.BuildError as error:
        raise ToolchainError(str(error)) from error


def folder_hash(folder: Path, base: str) -> str:
    """The hash of the names, modes and contents of all files in `folder`, and of the base."""
    digest = hashlib.sha256(base.encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(folder)} {path.stat().st_mode & 0o111}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _registry(client: docker.DockerClient) -> str:
    import docker.errors

    base = client.images.get(base_image.REFERENCE).id or ""
    tag = f"dds/registry:{folder_hash(REGISTRY_FOLDER, base)}"
    try:
        client.images.get(tag)
    except docker.errors.ImageNotFound:
        with progress.heartbeat("registry image", f"building {tag}"):
            try:
                client.images.build(path=str(REGISTRY_FOLDER), tag=tag, rm=True, forcerm=True)
            except docker.errors.BuildError as error:
                lines = [str(entry.get("stream", "")).rstrip() for entry in error.build_log]
                raise ToolchainError(
                    f"registry image: {error}\n" + "\n".join([line for line in lines if line][-15:])
                ) from error
    return tag
