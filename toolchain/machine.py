"""The mode of this machine, decided once for a checkout.

`ordinary`: the internet is reachable, so the official CLI, plugins and container images are used.
`packages`: only package registries are reachable, so everything is built from them.
"""

from __future__ import annotations

import http
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.errors import ToolchainError

if TYPE_CHECKING:
    from toolchain.paths import Checkout

MODES = ("ordinary", "packages")
PROBES = {
    "container registry": "https://registry-1.docker.io/v2/",
    "Pulumi's downloads": "https://get.pulumi.com/",
}
PROBE_TIMEOUT = 4.0


@dataclass(frozen=True)
class Mode:
    """The mode and the reason for it."""

    name: str
    reason: str

    @property
    def packages_only(self) -> bool:
        """Whether everything must come from package registries."""
        return self.name == "packages"


def reachable(address: str) -> bool:
    """Whether the genuine server responds within PROBE_TIMEOUT seconds."""
    try:
        with urllib.request.urlopen(address, timeout=PROBE_TIMEOUT):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        # A registry responds with 401; a proxy that refuses the address with 403 or 5xx.
        return error.code == http.HTTPStatus.UNAUTHORIZED
    except (OSError, http.client.HTTPException):
        return False


def decide(checkout: Checkout, probe: Callable[[str], bool] = reachable) -> Mode:
    """Decide the mode of this checkout on this machine.

    DDS_MODE has precedence. Otherwise an earlier decision is kept, because a change would replace the
    cluster; a new checkout probes.
    """
    forced = os.environ.get("DDS_MODE")
    if forced:
        if forced not in MODES:
            raise ToolchainError(f"DDS_MODE is {forced!r}; must be one of {', '.join(MODES)}")
        return Mode(forced, "set by DDS_MODE")
    record = checkout.private / "mode"
    if record.exists() and (before := record.read_text().strip()) in MODES:
        return Mode(before, f"decided earlier, recorded in {record.relative_to(checkout.root)}")
    mode = _probe(probe)
    checkout.make_private()
    record.write_text(f"{mode.name}\n")
    return mode


def _probe(probe: Callable[[str], bool]) -> Mode:
    with ThreadPoolExecutor(len(PROBES)) as pool:
        found = dict(zip(PROBES, pool.map(probe, PROBES.values()), strict=True))
    absent = [name for name, there in found.items() if not there]
    if absent:
        return Mode("packages", f"not reachable: {' and '.join(absent)}")
    return Mode("ordinary", "a container registry and Pulumi's downloads are reachable")


def installed_cli() -> Path | None:
    """The installed Pulumi CLI, if its Python language plugin is beside it or on PATH."""
    found = shutil.which("pulumi")
    if found is None:
        return None
    beside = Path(found).resolve().parent / "pulumi-language-python"
    return Path(found) if beside.exists() or shutil.which("pulumi-language-python") else None
