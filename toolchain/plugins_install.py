"""Installs the plugins in the project's own PULUMI_HOME.

An existing official plugin is linked (from DDS_OFFICIAL_PLUGINS, or the user's own PULUMI_HOME).
Otherwise, if only package registries are reachable, the Kubernetes plugin is built from its Go
module, and for the others an executable is written that runs the project's own.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from toolchain import builds
from toolchain.paths import ROOT, Checkout

DOCKER_VERSION = "5.2.0"
# The source of a plugin, as `up` and `doctor` print it.
BUILT = "official, built from its Go module"
FETCHED = "official, downloaded by the engine"
OWN = "the project's own"


@dataclass(frozen=True)
class Plugin:
    """A plugin of the engine, and its replacement if there is no official one.

    The replacement is the program of the tool `built_by` in `builds.TOOLS`, or the project's `module`.
    """

    kind: str
    name: str
    version: str
    module: str = ""
    built_by: str = ""

    @property
    def folder(self) -> str:
        """The name of its folder in PULUMI_HOME/plugins."""
        return f"{self.kind}-{self.name}-v{self.version}"

    @property
    def executable(self) -> str:
        """The name of its program."""
        return f"pulumi-{self.kind}-{self.name}"


PROVIDERS = (
    Plugin(
        "resource",
        "kubernetes",
        builds.KUBERNETES_PROVIDER_VERSION,
        built_by="kubernetes-provider",
    ),
    Plugin("resource", "docker", DOCKER_VERSION, module="toolchain.plugins.docker"),
)
LANGUAGE = (
    Plugin("language", "python", builds.PULUMI_VERSION, "toolchain.plugins.language_python"),
    Plugin("resource", "pulumi-python", builds.PULUMI_VERSION, "pulumi.dynamic"),
    Plugin("language", "yaml", builds.YAML_VERSION, "toolchain.plugins.language_yaml"),
)

# The components for other languages. It is no other installation's, so it is always installed.
COMPONENTS = Plugin(
    "resource", "dds", importlib.metadata.version("dds-patterns"), "dds_patterns.wire"
)


def official(plugin: Plugin) -> Path | None:
    """The executable of an official provider plugin on this machine, or None.

    From DDS_OFFICIAL_PLUGINS any version is used; from the user's PULUMI_HOME only the exact
    version.
    """
    named = os.environ.get("DDS_OFFICIAL_PLUGINS")
    if named and (Path(named) / plugin.executable).exists():
        return (Path(named) / plugin.executable).resolve()
    installed = Path.home() / ".pulumi" / "plugins" / plugin.folder / plugin.executable
    return installed.resolve() if installed.exists() else None


def install(checkout: Checkout, packages_only: bool) -> dict[str, str]:
    """Install every plugin and return the source of each.

    On an ordinary machine only official plugins are linked; the engine downloads missing ones.
    """
    checkout.make_private()
    plugins = checkout.pulumi_home / "plugins"
    plugins.mkdir(exist_ok=True)
    sources: dict[str, str] = {}
    for plugin in PROVIDERS:
        theirs = official(plugin)
        sources[plugin.name] = (
            f"official ({theirs})" if theirs else replacement(plugin, packages_only)
        )
        if theirs is None and packages_only and plugin.built_by:
            theirs = (builds.ensure(plugin.built_by) / plugin.executable).resolve()
        for version in (plugin, *_of_earlier_pins(plugins, plugin)):
            _install(plugins, version, theirs, packages_only)
    for plugin in LANGUAGE:
        _install(plugins, plugin, None, packages_only)
    _put(plugins, COMPONENTS, launcher(COMPONENTS))
    # Its schema is made from the checkout's code. The language hosts keep the one that they had from a
    # version until its folder is newer.
    os.utime(plugins / COMPONENTS.folder)
    return sources


def _install(plugins: Path, plugin: Plugin, program: Path | None, packages_only: bool) -> None:
    if program is None and not packages_only:
        _forget_ours(plugins, plugin)
    else:
        _put(plugins, plugin, program or launcher(plugin))


def _of_earlier_pins(plugins: Path, plugin: Plugin) -> list[Plugin]:
    """Versions that were installed here before.

    Until its next update, a stack's state needs the version of its last one.
    """
    found = sorted(plugins.glob(f"{plugin.kind}-{plugin.name}-v*/{plugin.executable}"))
    versions = [path.parent.name.rpartition("-v")[2] for path in found if _is_ours(path)]
    return [replace(plugin, version=one) for one in versions if one != plugin.version]


def replacement(plugin: Plugin, packages_only: bool) -> str:
    """The source of a plugin without an official one, as printed."""
    if not packages_only:
        return FETCHED
    return BUILT if plugin.built_by else OWN


def launcher(plugin: Plugin) -> str:
    """The text of the executable that runs one of the project's plugins."""
    python = shlex.quote(str(ROOT / ".venv" / "bin" / "python"))
    launch = shlex.quote(str(ROOT / "toolchain" / "plugins" / "launch.py"))
    return f'#!/bin/sh\nexec {python} -u {launch} {plugin.module} "$@"\n'


def _put(plugins: Path, plugin: Plugin, source: Path | str) -> None:
    """Install a plugin: a link to a program, or the text of a launcher."""
    folder = plugins / plugin.folder
    executable = folder / plugin.executable
    folder.mkdir(exist_ok=True)
    if isinstance(source, Path):
        if not executable.is_symlink() or executable.resolve() != source:
            executable.unlink(missing_ok=True)
            executable.symlink_to(source)
    elif executable.is_symlink() or not executable.exists() or executable.read_text() != source:
        executable.unlink(missing_ok=True)
        executable.write_text(source)
        executable.chmod(0o755)
    # Earlier versions wrote this file, with which the CLI would run the folder as a program.
    (folder / "PulumiPlugin.yaml").unlink(missing_ok=True)
    # The engine's own marker of a complete installation.
    (plugins / f"{plugin.folder}.lock").touch()


def _forget_ours(plugins: Path, plugin: Plugin) -> None:
    if _is_ours(plugins / plugin.folder / plugin.executable):
        shutil.rmtree(plugins / plugin.folder)
        (plugins / f"{plugin.folder}.lock").unlink(missing_ok=True)


def _is_ours(executable: Path) -> bool:
    """Whether `install` has created it: a link to a built program, or a launcher."""
    if executable.is_symlink():
        return executable.readlink().is_relative_to(builds.tools().resolve())
    try:
        return "plugins/launch.py" in executable.read_text()
    except (OSError, UnicodeDecodeError):
        return False
