"""Imports the engine's protocol without the rest of the SDK, for a quick start.

The generated modules are in the package `pulumi`, whose import takes longer than the rest of a
plugin's start. Import this module first in a plugin's ``__main__``, and only there: nothing else in
such a process may import `pulumi`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_NEEDED = (
    "engine_pb2",
    "engine_pb2_grpc",
    "plugin_pb2",
    "provider_pb2",
    "provider_pb2_grpc",
    "status_pb2",
)


def _placeholder(name: str, folder: Path) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    return module


def _load() -> None:
    spec = importlib.util.find_spec("pulumi")
    if spec is None or spec.origin is None or "pulumi" in sys.modules:
        return
    package = Path(spec.origin).parent
    sys.modules["pulumi"] = _placeholder("pulumi", package)
    sys.modules["pulumi.runtime"] = _placeholder("pulumi.runtime", package / "runtime")
    try:
        for name in _NEEDED:
            importlib.import_module(f"pulumi.runtime.proto.{name}")
    finally:
        del sys.modules["pulumi.runtime"], sys.modules["pulumi"]


_load()
