"""The environment in which `pulumi` works as it does under `make`."""

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

# The file backend keeps the state beside it, readable by the same user only. The passphrase
# keeps secrets out of what is shown or copied by accident; it is no protection from that user.
PASSPHRASE = "dds-local"  # noqa: S105
# Which variables of the environment are ours, each with a digest of its value.
OWN = "DDS_OWN"


def variables(checkout: Checkout, mode: Mode) -> dict[str, str]:
    """The variables that differ from the caller's environment.

    A backend, passphrase or Docker host that the user has exported stays as it is.
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
        # Neither a plugin of another installation nor an attempt to fetch one.
        found["PULUMI_IGNORE_AMBIENT_PLUGINS"] = "true"
        found["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] = "true"
    images = recorded_images(checkout) if mode.packages_only else {}
    for name in ("DDS_NODE_IMAGE", "DDS_REGISTRY_IMAGE"):
        if name not in given:
            found[name] = images.get(name, "")
    found[OWN] = " ".join(f"{name}={_digest(value)}" for name, value in found.items())
    return found


def forget_own() -> None:
    """Take out of this process's environment what `variables` once put there.

    After `eval "$(make env)"`, or in a command that another one started, these values may be old
    or another checkout's; what the user has exported since has another digest and stays.
    """
    for entry in os.environ.pop(OWN, "").split():
        name, _, digest = entry.partition("=")
        if name != "PATH" and name in os.environ and _digest(os.environ[name]) == digest:
            del os.environ[name]


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:8]


def path_entries(checkout: Checkout, mode: Mode) -> list[str]:
    """Folders that come before the user's PATH: the environment's, the CLI's and kubectl's."""
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
    """The images that the last `up` made for the cluster, by variable."""
    record = checkout.private / "images.json"
    try:
        loaded = json.loads(record.read_text())
    except (OSError, ValueError):
        return {}
    return {str(name): str(reference) for name, reference in loaded.items()}


def record_images(checkout: Checkout, images: dict[str, str]) -> None:
    """Keep the images that `up` made, for the commands that make none."""
    (checkout.private / "images.json").write_text(json.dumps(images, indent=1))
