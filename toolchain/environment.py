"""The environment in which `pulumi` works as with `make`."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain import builds, docker_daemon, machine

if TYPE_CHECKING:
    from toolchain.machine import Mode
    from toolchain.paths import Checkout

# The state of the file backend is readable only by the same user. The passphrase keeps secrets from
# being shown or copied by accident; it does not protect them from that user.
PASSPHRASE = "dds-local"  # noqa: S105
# The variables that the driver has set, each with a digest of its value.
OWN = "DDS_OWN"


def variables(checkout: Checkout, mode: Mode) -> dict[str, str]:
    """The variables that differ from the caller's environment.

    A backend, passphrase or Docker host that the user has exported is not changed.
    """
    given = os.environ
    found: dict[str, str] = {
        "PATH": os.pathsep.join([*path_entries(checkout, mode), given.get("PATH", "")]),
        "PULUMI_HOME": str(checkout.pulumi_home),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "DDS_MODE": mode.name,
    }
    if "PULUMI_BACKEND_URL" not in given:
        found["PULUMI_BACKEND_URL"] = f"file://{checkout.state}"
    if not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & given.keys():
        found["PULUMI_CONFIG_PASSPHRASE"] = PASSPHRASE
    if not given.get("KUBECONTEXT"):
        found["KUBECONFIG"] = str(checkout.kubeconfig)
    if "DOCKER_HOST" not in given:
        host = docker_daemon.host()
        if host and host != f"unix://{docker_daemon.DEFAULT_SOCKET}":
            found["DOCKER_HOST"] = host
    if mode.packages_only:
        # Use no plugin of another installation, and do not try to download one.
        found["PULUMI_IGNORE_AMBIENT_PLUGINS"] = "true"
        found["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] = "true"
    images = recorded_images(checkout) if mode.packages_only else {}
    for name in ("DDS_NODE_IMAGE", "DDS_REGISTRY_IMAGE"):
        if name not in given:
            found[name] = images.get(name, "")
    found[OWN] = " ".join(f"{name}={_digest(value)}" for name, value in found.items())
    return found


def forget_own() -> None:
    """Remove the variables that `variables` has set from this process's environment.

    After `eval "$(make env)"`, or in a nested command, these values may be outdated or belong to
    another checkout; a variable that the user has exported since has another digest and stays.
    """
    for entry in os.environ.pop(OWN, "").split():
        name, _, digest = entry.partition("=")
        if name != "PATH" and name in os.environ and _digest(os.environ[name]) == digest:
            del os.environ[name]


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:8]


def path_entries(checkout: Checkout, mode: Mode) -> list[str]:
    """Folders before the user's PATH: of the virtual environment, the CLI and kubectl."""
    folders: list[Path] = [checkout.root / ".venv" / "bin"]
    if mode.packages_only:
        folders.append(builds.bin_folder("pulumi"))
        if not shutil.which("kubectl"):
            folders.append(builds.bin_folder("kubernetes"))
    elif machine.installed_cli() is None:
        folders.append(checkout.private / "pulumi" / "bin")
    return [str(folder) for folder in folders]


def exports(found: dict[str, str]) -> str:
    """Shell text for `eval`."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in found.items())


def recorded_images(checkout: Checkout) -> dict[str, str]:
    """The images that the last `up` built for the cluster, by variable."""
    record = checkout.private / "images.json"
    try:
        loaded = json.loads(record.read_text())
    except (OSError, ValueError):
        return {}
    return {str(name): str(reference) for name, reference in loaded.items()}


def record_images(checkout: Checkout, images: dict[str, str]) -> None:
    """Record the images that `up` has built, for commands that build none."""
    (checkout.private / "images.json").write_text(json.dumps(images, indent=1))
