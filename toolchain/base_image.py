"""`debian:bookworm-slim`: pulled, or built with debootstrap under the same name."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain import cache, paths, progress
from toolchain.errors import ToolchainError

if TYPE_CHECKING:
    import docker

REPOSITORY, TAG = "debian", "bookworm-slim"
REFERENCE = f"{REPOSITORY}:{TAG}"
SUITE = "bookworm"
MIRROR = "http://deb.debian.org"

# Files of the official slim image: packages must not start daemons during a build, and package
# archives and manuals must not end up in a layer.
FILES = {
    "etc/apt/sources.list": (
        "deb {mirror}/debian bookworm main\n"
        "deb {mirror}/debian bookworm-updates main\n"
        "deb {mirror}/debian-security bookworm-security main\n"
    ),
    "etc/apt/apt.conf.d/docker-clean": (
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb '
        '/var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };\n'
        'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
    ),
    "etc/apt/apt.conf.d/docker-no-languages": 'Acquire::Languages "none";\n',
    "etc/dpkg/dpkg.cfg.d/docker": (
        "force-unsafe-io\n"
        "path-exclude /usr/share/doc/*\npath-include /usr/share/doc/*/copyright\n"
        "path-exclude /usr/share/man/*\npath-exclude /usr/share/locale/*\n"
        "path-exclude /usr/share/info/*\n"
    ),
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
}
EMPTIED = ("var/lib/apt/lists", "var/cache/apt/archives", "usr/share/man", "usr/share/locale",
           "usr/share/info", "var/log")  # fmt: skip


def mirror() -> str:
    """The Debian mirror's URL without a path; DDS_DEBIAN_MIRROR overrides it."""
    return os.environ.get("DDS_DEBIAN_MIRROR", MIRROR).rstrip("/")


def ensure(client: docker.DockerClient, pull: bool) -> str:
    """Pull or build the base image if the daemon does not have it; returns its reference.

    `pull`: whether a container registry is reachable. Without one the image is built once, cached
    as a tarball and imported.
    """
    import docker.errors

    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.get(REFERENCE)
        return REFERENCE
    if pull:
        with progress.heartbeat("base image", f"pulling {REFERENCE}"):
            client.images.pull(REPOSITORY, tag=TAG)
        return REFERENCE
    tarball = _tarball()
    with progress.heartbeat("base image", f"importing {tarball.name} as {REFERENCE}"):
        output = client.api.import_image_from_file(
            str(tarball), repository=REPOSITORY, tag=TAG, changes=['CMD ["bash"]']
        )
    # The daemon responds with 200 before it starts; later errors are only in its output.
    try:
        client.images.get(REFERENCE)
    except docker.errors.ImageNotFound:
        raise ToolchainError(f"base image: {tarball} cannot be imported: {output}") from None
    return REFERENCE


def _tarball() -> Path:
    recipe = hashlib.sha256(repr((SUITE, mirror(), FILES, EMPTIED)).encode()).hexdigest()[:12]
    made = cache.made_once(
        paths.cache_root() / "images" / f"{SUITE}-slim-{recipe}", "base image", _bootstrap
    )
    return made / "rootfs.tar"


def _bootstrap(folder: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        raise ToolchainError(
            f"base image: {REFERENCE} can neither be pulled nor built, which needs root and "
            f"debootstrap (apt-get install debootstrap); or `docker load` {REFERENCE}"
        )
    root, log = folder / "rootfs", folder / "debootstrap.log"
    command = ["debootstrap", "--variant=minbase", SUITE, str(root), f"{mirror()}/debian"]
    with progress.heartbeat("base image", "debootstrap (about a minute)"), log.open("w") as out:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        raise ToolchainError(
            f"base image: {' '.join(command)} failed:\n"
            + "\n".join(log.read_text().splitlines()[-15:])
        )
    for name in EMPTIED:
        for entry in (root / name).iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for name, text in FILES.items():
        file = root / name
        file.write_text(text.replace("{mirror}", mirror()))
        file.chmod(0o755 if text.startswith("#!") else 0o644)
    with tarfile.open(folder / "rootfs.tar", "w") as tar:
        tar.add(root, arcname=".", filter=_not_a_device)
    shutil.rmtree(root)


def _not_a_device(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.isdev() and not entry.isreg() else entry
