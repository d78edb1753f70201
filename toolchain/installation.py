"""The Pulumi CLI: the installed one, from the official installer, or built from its module."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import urllib.request
from typing import TYPE_CHECKING

from toolchain import builds, cache, machine, progress
from toolchain.errors import ToolchainError

if TYPE_CHECKING:
    from pathlib import Path

    from toolchain.machine import Mode
    from toolchain.paths import Checkout

INSTALLER = "https://get.pulumi.com/"


def ensure_cli(checkout: Checkout, mode: Mode) -> None:
    """Install `pulumi` if it is not on the PATH of `environment.variables`."""
    if mode.packages_only:
        builds.ensure("pulumi")
        return
    if machine.installed_cli() is not None:
        return
    target = checkout.private / "pulumi"
    if (target / "bin" / "pulumi").exists():
        return
    # A folder without it was left by a killed run of an earlier version of this driver.
    shutil.rmtree(target, ignore_errors=True)
    cache.made_once(target, "pulumi", _install)


def _install(target: Path) -> None:
    what = f"the CLI is not installed: downloading {builds.PULUMI_VERSION} from {INSTALLER}"
    with progress.heartbeat("pulumi", what):
        try:
            with urllib.request.urlopen(INSTALLER, timeout=60) as answer:
                script = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ToolchainError(
                f"pulumi: {INSTALLER} cannot be downloaded ({error}); install the Pulumi CLI "
                f"{builds.PULUMI_VERSION} or newer, or set DDS_MODE=packages to build it with Go"
            ) from error
        done = subprocess.run(
            ["sh", "-s", "--", "--version", builds.PULUMI_VERSION, "--no-edit-path",
             "--install-root", str(target)],
            input=script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    if done.returncode:
        tail = done.stdout.decode(errors="replace")[-1500:]
        raise ToolchainError(f"pulumi: the official installer failed:\n{tail}")
