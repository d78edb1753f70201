"""The Python interpreter of a program's Pulumi.yaml, and a language host that runs in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import language_pb2_grpc

_LAUNCH = Path(__file__).resolve().parents[1] / "launch.py"
_OPTIONS = ("toolchain", "virtualenv")


class OptionError(Exception):
    """An unsupported or invalid option under ``runtime`` of Pulumi.yaml."""


def environment(info: Any) -> Path | None:
    """The folder of the program's virtual environment; None if it has none, or it is this one.

    :param info: the engine's ProgramInfo
    :raises OptionError: an unsupported option
    """
    options = json_format.MessageToDict(info.options)
    for name in options:
        if name not in _OPTIONS:
            raise OptionError(
                f"runtime.options.{name} is not supported by the project's language host, only "
                f"{' and '.join(_OPTIONS)}"
            )
    if options.get("toolchain", "pip") != "pip":
        raise OptionError(
            f"runtime.options.toolchain is {options['toolchain']!r}; the project's language host "
            "supports only pip"
        )
    name = options.get("virtualenv")
    if not name:
        return None
    folder = Path(info.root_directory, str(name))
    return None if folder.resolve() == Path(sys.prefix).resolve() else folder


def python(folder: Path) -> Path:
    """The interpreter of a virtual environment.

    :raises OptionError: it does not exist
    """
    found = folder / "bin" / "python"
    if not found.exists():
        raise OptionError(
            f"runtime.options.virtualenv is {folder.name!r}, and {found} does not exist; "
            "`pulumi install` creates it"
        )
    return found


def host(interpreter: Path, engine: str) -> Any:
    """This host in another interpreter, which needs Pulumi's SDK. It exits with this process."""
    process = subprocess.Popen(
        [interpreter, "-u", _LAUNCH, "toolchain.plugins.language_python", engine],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    port = process.stdout.readline().strip() if process.stdout else ""
    if not port:
        process.communicate()
        raise OptionError(
            f"{interpreter} cannot run the program; is pulumi in its environment? `pulumi install` "
            "installs the packages of requirements.txt"
        )
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=_GRPC_CHANNEL_OPTIONS)
    return language_pb2_grpc.LanguageRuntimeStub(channel)


def install(folder: Path, requirements: Path) -> Iterator[str]:
    """Create a virtual environment, and install a program's requirements; yields the output.

    :raises OptionError: a command failed
    """
    if not (folder / "bin" / "python").exists():
        yield from _output([sys.executable, "-m", "venv", str(folder)], folder.parent)
    if requirements.exists():
        # Paths in it are relative to the program's folder.
        install = [str(python(folder)), "-m", "pip", "install", "-r", str(requirements)]
        yield from _output(install, requirements.parent)


def _output(command: list[str], cwd: Path) -> Iterator[str]:
    with subprocess.Popen(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield from process.stdout or ()
    if process.returncode:
        raise OptionError(f"{' '.join(command)} exited with code {process.returncode}")
