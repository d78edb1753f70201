"""Puts the plugins where the engine finds them: the project's own PULUMI_HOME.

An official plugin is linked where one is present (DDS_OFFICIAL_PLUGINS, or the user's own
PULUMI_HOME); otherwise an executable is written that runs the project's.
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from toolchain import builds
from toolchain.paths import ROOT, Checkout

KUBERNETES_VERSION = "4.34.2"
DOCKER_VERSION = "5.2.0"


@dataclass(frozen=True)
class Plugin:
    """A plugin of the engine: its kind, name and version, and the module that is ours."""

    kind: str
    name: str
    version: str
    module: str

    @property
    def folder(self) -> str:
        """The name of its folder under PULUMI_HOME/plugins."""
        return f"{self.kind}-{self.name}-v{self.version}"

    @property
    def executable(self) -> str:
        """The name of its program."""
        return f"pulumi-{self.kind}-{self.name}"


PROVIDERS = (
    Plugin("resource", "kubernetes", KUBERNETES_VERSION, "toolchain.plugins.kubernetes"),
    Plugin("resource", "docker", DOCKER_VERSION, "toolchain.plugins.docker"),
)
LANGUAGE = (
    Plugin("language", "python", builds.PULUMI_VERSION, "toolchain.plugins.language_python"),
    Plugin("resource", "pulumi-python", builds.PULUMI_VERSION, "pulumi.dynamic"),
)


def official(plugin: Plugin) -> Path | None:
    """The executable of an official provider plugin on this machine, or None.

    DDS_OFFICIAL_PLUGINS is taken whatever its version is; from the user's PULUMI_HOME only the
    exact version is.
    """
    named = os.environ.get("DDS_OFFICIAL_PLUGINS")
    if named and (Path(named) / plugin.executable).exists():
        return (Path(named) / plugin.executable).resolve()
    installed = Path.home() / ".pulumi" / "plugins" / plugin.folder / plugin.executable
    return installed.resolve() if installed.exists() else None


def install(checkout: Checkout, packages_only: bool) -> dict[str, str]:
    """Install every plugin and return, for each, where it comes from.

    On an ordinary machine only official plugins are linked; the engine fetches what is absent.
    """
    checkout.make_private()
    plugins = checkout.pulumi_home / "plugins"
    plugins.mkdir(exist_ok=True)
    sources: dict[str, str] = {}
    for plugin in PROVIDERS:
        theirs = official(plugin)
        if theirs is not None:
            _write(plugins, plugin, None, theirs)
            sources[plugin.name] = f"official ({theirs})"
        elif packages_only:
            _write(plugins, plugin, launcher(plugin), None)
            sources[plugin.name] = "the project's own"
        else:
            _forget_ours(plugins, plugin)
            sources[plugin.name] = "official (fetched by the engine)"
    for plugin in LANGUAGE:
        if packages_only:
            _write(plugins, plugin, launcher(plugin), None)
        else:
            _forget_ours(plugins, plugin)
    return sources


def launcher(plugin: Plugin) -> str:
    """The text of the executable that runs a plugin of ours."""
    python = shlex.quote(str(ROOT / ".venv" / "bin" / "python"))
    launch = shlex.quote(str(ROOT / "toolchain" / "plugins" / "launch.py"))
    return f'#!/bin/sh\nexec {python} -u {launch} {plugin.module} "$@"\n'


def _write(plugins: Path, plugin: Plugin, text: str | None, target: Path | None) -> None:
    folder = plugins / plugin.folder
    executable = folder / plugin.executable
    folder.mkdir(exist_ok=True)
    if target is not None:
        if not executable.is_symlink() or executable.resolve() != target:
            executable.unlink(missing_ok=True)
            executable.symlink_to(target)
    elif text is not None and (
        executable.is_symlink() or not executable.exists() or executable.read_text() != text
    ):
        executable.unlink(missing_ok=True)
        executable.write_text(text)
        executable.chmod(0o755)
    # With it, which earlier versions wrote, the CLI would have the language host run the folder.
    (folder / "PulumiPlugin.yaml").unlink(missing_ok=True)
    # The engine's own mark of a complete installation.
    (plugins / f"{plugin.folder}.lock").touch()


def _forget_ours(plugins: Path, plugin: Plugin) -> None:
    executable = plugins / plugin.folder / plugin.executable
    try:
        ours = "plugins/launch.py" in executable.read_text()
    except (OSError, UnicodeDecodeError):
        return
    if ours:
        shutil.rmtree(plugins / plugin.folder)
        (plugins / f"{plugin.folder}.lock").unlink(missing_ok=True)
